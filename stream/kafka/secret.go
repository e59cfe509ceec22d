package kafka

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Secret is a text of the configuration that nobody is to see: however it is printed, logged or encoded, it shows
// only whether it is there. Who needs it converts it to a string.
type Secret string

// hiddenSecret is what is shown of one that is there.
const hiddenSecret = "hidden"

func (s Secret) shown() string {
	if s == "" {
		return ""
	}
	return hiddenSecret
}

// Format is how fmt shows it, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.shown())) }

// MarshalText is how JSON, YAML and the log show it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.shown()), nil }

// readSecret returns what a file holds, without the line break at its end. The problem names the key, and
// nothing of the file.
func readSecret(key, file string) (Secret, *Problem) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", unreadable(key, file, err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", &Problem{key, file, "it is empty"}
	}
	return Secret(secret), nil
}

// without takes a secret out of what somebody said who was told it: he may repeat it.
func (s Secret) without(text string) string {
	if s == "" {
		return text
	}
	return strings.NewReplacer(string(s), hiddenSecret, url.QueryEscape(string(s)), hiddenSecret).Replace(text)
}
