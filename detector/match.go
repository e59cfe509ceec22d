package detector

import (
	"unicode"
	"unicode/utf8"
)

// terms is a list of terms to look for as KQL's has_any does, prepared by newTerms.
//
// KQL's documentation (String operators) breaks a text into "maximal sequences of
// alphanumeric characters"; `has` finds a whole term, so one that is bounded on both sides
// by something else or by an end. What a term of several words does is not documented; the
// text in between is compared as it is, which is what is seen. Older editions say ASCII
// alphanumeric; we take letters and decimal digits of any script, so that an accented
// letter joined to a term makes it another word. Case is folded in ASCII only: the
// documentation supports case-insensitive operators for ASCII text alone.
type terms []string

// newTerms prepares the terms. Each must be valid UTF-8 and hold a letter or digit.
func newTerms(list []string) terms {
	prepared := make(terms, len(list))
	for i, term := range list {
		folded := []byte(term)
		for j, c := range folded {
			folded[j] = foldASCII(c)
		}
		prepared[i] = string(folded)
	}
	return prepared
}

// in reports whether text has any of the terms. It does not allocate.
func (t terms) in(text string) bool {
	for _, term := range t {
		if has(text, term) {
			return true
		}
	}
	return false
}

var mfaTerm = newTerms([]string{prtReuse.MFATerm})[0]

// ReadMFA says what the authentication details tell of multi-factor authentication. It
// takes the whole text, JSON as it came, for all that the query asks is whether the text has
// the term. It does not allocate.
//
// Preset hardened (switch mfa) adds a bit here: that a fresh MFA step succeeded.
func ReadMFA(details []byte) MFA {
	if has(details, mfaTerm) {
		return MFAMentioned
	}
	return 0
}

// has reports whether text has the term, which newTerms has folded.
func has[T string | []byte](text T, term string) bool {
	for i := 0; i+len(term) <= len(text); i++ {
		if foldASCII(text[i]) == term[0] && equalFolded(text[i:i+len(term)], term) &&
			endsApart(text[:i]) && startsApart(text[i+len(term):]) {
			return true
		}
	}
	return false
}

func equalFolded[T string | []byte](text T, folded string) bool {
	for i := range len(folded) {
		if foldASCII(text[i]) != folded[i] {
			return false
		}
	}
	return true
}

// endsApart reports whether a term may begin after text.
func endsApart[T string | []byte](text T) bool {
	if len(text) == 0 {
		return true
	}
	if c := text[len(text)-1]; c < utf8.RuneSelf {
		return !alphanumericASCII(c)
	}
	r, _ := utf8.DecodeLastRuneInString(string(text[max(0, len(text)-utf8.UTFMax):]))
	return !alphanumeric(r)
}

// startsApart reports whether a term may end before text.
func startsApart[T string | []byte](text T) bool {
	if len(text) == 0 {
		return true
	}
	if c := text[0]; c < utf8.RuneSelf {
		return !alphanumericASCII(c)
	}
	r, _ := utf8.DecodeRuneInString(string(text[:min(len(text), utf8.UTFMax)]))
	return !alphanumeric(r)
}

func alphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func alphanumericASCII(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= foldASCII(c) && foldASCII(c) <= 'z'
}

func foldASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
