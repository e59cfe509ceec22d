// Command prtwatch says within a second when a stolen refresh token, or Primary Refresh
// Token, of Entra ID is used: see `prtwatch --help`, and docs/ for how it works.
//
// It only wires: what the commands do is in the packages below stream, state and detector.
// Start here; each subcommand is the file of its name.
package main

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
)

func main() {
	// A reader of our output that goes away, `| head` say, is an error of a write (see
	// quietPipe) and not our end, so that what is open is closed.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// program is what every subcommand works with.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	sources        settings.Sources
}

// run is main with everything that it reads and writes, and returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, sources: settings.Sources{Environ: environ}}
	ctx, stop := interruptible(stderr)
	defer stop()
	root := p.root()
	root.SetArgs(args)
	return p.report(root.ExecuteContext(ctx))
}

// subcommands are all there are.
func (p *program) subcommands() []*cobra.Command {
	return []*cobra.Command{
		p.runCommand(),
		p.replayCommand(),
		p.demoCommand(),
		p.genCommand(),
		p.redriveCommand(),
		p.topCommand(),
		p.topicsCommand(),
		p.configCommand(),
		p.readyCommand(),
		p.versionCommand(),
	}
}

// settings loads the configuration. Every problem of it is the user's (exit code 2).
func (p *program) settings() (*settings.Settings, error) {
	s, err := settings.Load(p.sources)
	if err != nil {
		return nil, wrong(err)
	}
	return s, nil
}
