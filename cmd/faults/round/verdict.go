package round

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

// Verdict is what the verifier says.
type Verdict struct {
	Wrong bool           // exit code other than 0
	Raw   map[string]any // its JSON
}

// verifyWithin bounds a run of the verifier: a hundred times what it takes where it is alone.
const verifyWithin = 15 * time.Minute

// verify has the verifier compare input, alerts, baseline, dead letters and states.
func (s *scene) verify(ctx context.Context) {
	if s.Verify == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	args := []string{
		"--brokers", strings.Join(s.Cluster.Addrs(), ","), "--input", s.names["input"], "--signins", s.names["signins"],
		"--alerts", s.names["alerts"], "--baseline", s.names["baseline"], "--dead-letter", s.names["dead-letter"],
		"--detect-group", s.names["detect"], "--split-group", s.names["split"], "--delivery", s.Delivery,
		"--lateness", Lateness.String(), "--examples", "10", "--json",
	}
	for _, i := range s.instances {
		if _, err := os.Stat(filepath.Join(i.Dir, "pebble")); err != nil {
			continue
		}
		if fleet.Damaged(i.Dir) { // nobody can say what is in it; prtwatch has not looked there
			s.write(entry{What: "note", Target: i.Name, Detail: "its state is damaged still, and not verified"})
			continue
		}
		args = append(args, "--state", i.Dir)
	}
	if s.Delivery == atLeastOnce {
		args = append(args, "--again-within", (s.mu.result.Still.Detecting.For + againAfter).String())
	}
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, s.Verify, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	_ = os.WriteFile(filepath.Join(s.Dir, "verify.json"), out.Bytes(), 0o644)
	_ = os.WriteFile(filepath.Join(s.Dir, "verify.command"), []byte(s.Verify+" "+strings.Join(args, " ")+"\n"), 0o644)
	v := &Verdict{Wrong: err != nil}
	if jsonErr := json.Unmarshal(out.Bytes(), &v.Raw); jsonErr != nil {
		s.find("suite", "the verifier gave no verdict: %v: %s", errors.Join(err, jsonErr), complaints.String())
		return
	}
	s.update(func(r *Result) { r.Verdict = v })
	if s.Delivery == atLeastOnce {
		s.boundRepeats(v.Numbers())
	}
	if err != nil {
		s.find("verify", "%v: %s", err, v.summary())
	}
	if why := v.empty(s.feeder.Counts().SignIns); why != "" {
		s.find("suite", "the verdict says nothing: %s: %s", why, v.summary())
	}
}

// empty says why a verdict on so many sign-ins would be well whatever prtwatch had done; nothing
// where it would not.
func (v *Verdict) empty(signIns int) string {
	n := v.Numbers()
	switch ok, said := v.Raw["ok"].(bool); {
	case !said || ok == v.Wrong:
		return "it is neither well nor wrong"
	case n["sign_ins"] < float64(signIns):
		return fmt.Sprintf("%d sign-ins were written", signIns)
	case n["rows"] == 0:
		return "the query has no rows"
	case n["profiles"] == 0:
		return "nobody is known"
	}
	return ""
}

// summary is the figures of a verdict, and then what it has by way of examples.
func (v *Verdict) summary() string {
	short := maps.Clone(v.Raw)
	delete(short, "examples")
	figures, _ := json.Marshal(short)
	examples, _ := json.Marshal(v.Raw["examples"])
	return fmt.Sprintf("%s %.2000s", figures, examples)
}

// Numbers returns the figures of the verdict by name; those of an object within it are named
// object.figure.
func (v *Verdict) Numbers() map[string]float64 {
	numbers := make(map[string]float64)
	collect(numbers, "", v.Raw)
	return numbers
}

func collect(numbers map[string]float64, prefix string, object map[string]any) {
	for name, value := range object {
		switch value := value.(type) {
		case float64:
			numbers[prefix+name] = value
		case map[string]any:
			collect(numbers, prefix+name+".", value)
		}
	}
}
