package settings

import "github.com/agnivade/levenshtein"

// Nearest returns which of the names was meant by the given one, which is none of them: that
// with the fewest letters to change. It is empty where more than a third of the letters, or
// so, would have to be: then a suggestion only misleads.
func Nearest(given string, names []string) string {
	best, least := "", (len(given)+1)/3+1
	for _, name := range names {
		if d := levenshtein.ComputeDistance(given, name); d < least {
			best, least = name, d
		}
	}
	return best
}
