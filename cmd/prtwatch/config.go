package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/pipeline"
)

func (p *program) configCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "print the effective configuration and where each value came from",
		Long: `Prints the configuration that the other commands would run with, as YAML that can be loaded
again, each key with where its value came from. Secrets are hidden.`,
		Example: `  prtwatch config --config prtwatch.yaml
  prtwatch config --config prtwatch.yaml --check`,
		Args: cobra.NoArgs,
		RunE: does(func(context.Context, []string) error {
			s, err := p.settings()
			if err != nil {
				return err
			}
			if _, err := pipeline.ReadAllowlist(s.Detection.Allowlist); err != nil {
				return wrong(err)
			}
			if check {
				return nil
			}
			return quietPipe(s.Print(p.stdout))
		}),
	}
	cmd.Flags().BoolVar(&check, "check", false, "only say what is wrong")
	return cmd
}
