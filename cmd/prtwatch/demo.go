package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/demo"
)

func (p *program) demoCommand() *cobra.Command {
	var lasts time.Duration
	var seed uint64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "see it work, without any set-up",
		Long: `Starts a broker inside this process, makes a tenant with some days of past, and runs the whole
pipeline on it: what the tenant's people do, alerts as they come, and among them the theft of a
token, told step by step. Nothing is kept and nothing leaves this machine.`,
		Example: `  prtwatch demo
  prtwatch demo --for 20s`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			if lasts < 0 {
				return wrong(fmt.Errorf("--for %s: give a time such as 20s, or leave it out", lasts))
			}
			s, err := p.settings()
			if err != nil {
				return err
			}
			if s.Log.Level == "info" {
				s.Log.Level = "warn" // the story is the log
			}
			return demo.Run(ctx, s, demo.Options{For: lasts, Seed: seed, Out: p.stdout, Terminal: isTerminal(p.stdout), Log: newLogger(s.Log, p.stderr)})
		}),
	}
	cmd.Flags().DurationVar(&lasts, "for", 0, "end after this time, such as 20s (0: with a signal)")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the tenant")
	return cmd
}
