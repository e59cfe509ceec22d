package detect

import (
	"strings"
	"testing"
	"time"
)

func TestTheDefaultsAreValid(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	c := Config{Members: -1, Transaction: 20 * time.Second, TransactionTimeout: 10 * time.Second, SessionTimeout: time.Second}
	err := c.Validate()
	if err == nil {
		t.Fatal("a section that is wrong throughout is valid")
	}
	for _, key := range []string{"detect.group:", "detect.members:", "detect.transaction:", "detect.session_timeout:", "shorter than detect.transaction_timeout"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q is not in:\n%v", key, err)
		}
	}
}
