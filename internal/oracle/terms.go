package oracle

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// has is KQL's has: term occurs in text, whatever the case, and on either side there is the
// end or something that is not alphanumeric.
func has(text, term string) bool {
	text, term = strings.ToLower(text), strings.ToLower(term)
	for at := 0; ; at++ {
		i := strings.Index(text[at:], term)
		if i < 0 {
			return false
		}
		at += i
		before, _ := utf8.DecodeLastRuneInString(text[:at])
		after, _ := utf8.DecodeRuneInString(text[at+len(term):])
		if !alphanumeric(before) && !alphanumeric(after) {
			return true
		}
	}
}

// hasAny is KQL's has_any.
func hasAny(text string, terms []string) bool {
	for _, term := range terms {
		if has(text, term) {
			return true
		}
	}
	return false
}

// alphanumeric is false for utf8.RuneError, which stands for the end of a text here.
func alphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
