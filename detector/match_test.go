package detector

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestATermMatchesOnlyBetweenOtherThanLettersAndDigits(t *testing.T) {
	for _, c := range []struct {
		text, term string
		want       bool
	}{
		{"microsoft graph powershell", "Microsoft Graph", true},
		{"(Microsoft Graph)", "Microsoft Graph", true},
		{"Microsoft Graph", "Microsoft Graph", true},
		{"MICROSOFT_GRAPH Microsoft-Graph.microsoft graph", "Microsoft Graph", true},
		{"Microsoft Graphics", "Microsoft Graph", false},
		{"Microsoft Graphics, Microsoft Graph", "Microsoft Graph", true},
		{"MicrosoftGraph", "Microsoft Graph", false},
		{"Microsoft  Graph", "Microsoft Graph", false},
		{"NotMicrosoft Graph", "Microsoft Graph", false},
		{"Microsoft Graph2", "Microsoft Graph", false},
		{"éMicrosoft Graph", "Microsoft Graph", false},
		{"Microsoft Graphé", "Microsoft Graph", false},
		{"Microsoft Graph٣", "Microsoft Graph", false}, // an Arabic digit
		{"“Microsoft Graph”", "Microsoft Graph", true},
		{"\xffMicrosoft Graph\xff", "Microsoft Graph", true},
		{"", "Microsoft Graph", false},
		{"Microsoft Intune Checkin", "Microsoft Intune", true},
		{`[{"authenticationMethod":"Multifactor authentication"}]`, "Multifactor", true},
		{"x-multifactor_y", "Multifactor", true},
		{"MultifactorAuthentication", "Multifactor", false},
		{"Multi-factor authentication", "Multifactor", false},
		{"multiﬁactor Multıfactor", "Multifactor", false}, // case is folded in ASCII only
	} {
		if got := newTerms([]string{"never there", c.term}).in(c.text); got != c.want {
			t.Errorf("%q has %q: %v, want %v", c.text, c.term, got, c.want)
		}
	}
}

func TestTermsMatchAsSplittingIntoWordsDoes(t *testing.T) {
	texts := rapid.StringOfN(rapid.RuneFrom([]rune("aAbB1 -_.é٣²\u2028")), 0, 24, -1)
	words := rapid.StringOfN(rapid.RuneFrom([]rune("aAbB1é")), 1, 2, -1)
	rapid.Check(t, func(t *rapid.T) {
		term := strings.Join(rapid.SliceOfN(words, 1, 3).Draw(t, "words"), rapid.SampledFrom([]string{" ", "-", " - "}).Draw(t, "between"))
		text := texts.Draw(t, "text")
		if rapid.Bool().Draw(t, "planted") {
			text += term + texts.Draw(t, "after")
		}
		want := hasByWords(text, term)
		if got := newTerms([]string{term}).in(text); got != want {
			t.Fatalf("%q has %q: %v, splitting it into words says %v", text, term, got, want)
		}
	})
}

func FuzzTermsMatchAsSplittingIntoWordsDoes(f *testing.F) {
	f.Add("x-multifactor_y", "Multifactor")
	f.Add("Microsoft Graphics Microsoft  Graph", "microsoft graph")
	f.Add("\xc3a\xa9 é", "A")
	f.Fuzz(func(t *testing.T, text, term string) {
		words := wordsOf(term)
		if termRemedy(term) != "" || words[0].from != 0 || words[len(words)-1].to != len(term) {
			t.Skip("no term, or one that begins or ends with something else")
		}
		if got, want := has(text, newTerms([]string{term})[0]), hasByWords(text, term); got != want {
			t.Fatalf("%q has %q: %v, splitting it into words says %v", text, term, got, want)
		}
		if has(text, mfaTerm) != (ReadMFA([]byte(text)) == MFAMentioned) {
			t.Fatalf("ReadMFA and has disagree on %q", text)
		}
	})
}

type word struct{ from, to int }

// wordsOf splits text into its maximal sequences of letters and digits.
func wordsOf(text string) []word {
	var words []word
	inside := false
	for i, r := range text {
		if is := unicode.In(r, unicode.L, unicode.Nd); is && !inside {
			words, inside = append(words, word{from: i}), true
		} else if !is && inside {
			words[len(words)-1].to, inside = i, false
		}
	}
	if inside {
		words[len(words)-1].to = len(text)
	}
	return words
}

// hasByWords is the plain twin: it looks at each run of as many words as the term has.
func hasByWords(text, term string) bool {
	n := len(wordsOf(term))
	words := wordsOf(text)
	for i := 0; i+n <= len(words); i++ {
		if asciiLower(text[words[i].from:words[i+n-1].to]) == asciiLower(term) {
			return true
		}
	}
	return false
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < utf8.RuneSelf {
			b[i] = byte(unicode.ToLower(rune(c)))
		}
	}
	return string(b)
}

func TestReadMFALooksForTheTermAnywhereInTheDetails(t *testing.T) {
	for details, want := range map[string]MFA{
		``:   0,
		`[]`: 0,
		`[{"authenticationStepDateTime":"","authenticationMethod":"Previously satisfied","authenticationStepResultDetail":"MFA requirement satisfied by claim in the token"}]`: 0,
		`[{"authenticationMethod":"Password"},{"authenticationStepRequirement":"Multi-factor authentication"}]`:                                                                0,
		`[{"authenticationStepRequirement":"multifactor authentication"}]`:                                                                                                     MFAMentioned,
		`"[{\"authenticationStepRequirement\":\"Multifactor authentication\"}]"`:                                                                                               MFAMentioned,
	} {
		if got := ReadMFA([]byte(details)); got != want {
			t.Errorf("%s: %b, want %b", details, got, want)
		}
	}
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	terms := newTerms(PRTReuse().ResourceTerms)
	details := []byte(strings.Repeat("é Multifactorié", 20))
	if n := testing.AllocsPerRun(100, func() { terms.in("é Microsoft Graphé Office 365 Exchange Online"); ReadMFA(details) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	terms := newTerms(PRTReuse().ResourceTerms)
	details := []byte(`[{"authenticationStepDateTime":"2025-04-11T05:18:41.8256448+00:00","authenticationMethod":"Previously satisfied","succeeded":true,"authenticationStepResultDetail":"MFA requirement satisfied by claim in the token","authenticationStepRequirement":"","StatusSequence":0,"RequestSequence":0}]`)
	b.Run("resource that has none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			terms.in("Office 365 Exchange Online")
		}
	})
	b.Run("authentication details", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(details)))
		for b.Loop() {
			ReadMFA(details)
		}
	})
}
