//go:build faults

package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// armed is the step at which the process gets the signal, and left how often it may be done.
var (
	armed  Point
	signal = syscall.SIGKILL
	left   atomic.Int64
)

func init() {
	value := os.Getenv(Env)
	_ = os.Unsetenv(Env) // it is no key of the configuration, which takes all that begins with PRTWATCH_
	if value == "list" {
		for _, p := range Points() {
			fmt.Println(p)
		}
		os.Exit(0)
	}
	name, times, _ := strings.Cut(value, ":")
	times, stops := strings.CutSuffix(times, Stops)
	n, err := strconv.ParseInt(times, 10, 64)
	if value != "" && (err != nil || n < 1) {
		fmt.Fprintf(os.Stderr, "%s=%s: want NAME:N or NAME:N%s, N from 1 on\n", Env, value, Stops)
		os.Exit(2)
	}
	if stops {
		signal = syscall.SIGSTOP
	}
	armed = Point(name)
	left.Store(n)
}

// Pass tells that a step was done, and kills or stops the process where it is the armed one.
func Pass(p Point) {
	if p != armed || left.Add(-1) != 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), signal)
	if signal == syscall.SIGKILL {
		select {} // the signal is on its way
	}
	time.Sleep(time.Millisecond) // it may be this long on its way; then whoever sent SIGCONT goes on here
}
