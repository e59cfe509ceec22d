package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// root is the command line: the subcommands, and the flags that all of them take.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "prtwatch",
		Short: "says within a second when a stolen token of Entra ID is used",
		Long: `prtwatch reads the non-interactive sign-ins that Entra ID exports to Event Hubs or Kafka and
alerts when a user's token reaches Intune from an address and a network that he has not used
for 14 days, without MFA: what a refresh token or Primary Refresh Token that was stolen looks
like when the thief redeems it.

Values come from the file of --config, then PRTWATCH_... variables (PRTWATCH_KAFKA__BROKERS is
kafka.brokers), then --set; the later wins. In the last two a list is comma-separated.`,
		Example: `  prtwatch config --set kafka.brokers=kafka-1.example.com:9092 > prtwatch.yaml
  prtwatch topics --create --config prtwatch.yaml
  prtwatch replay export.jsonl.gz`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableSuggestions:         true, // ours fit on the line
		SuggestionsMinimumDistance: 1,
		CompletionOptions:          cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:                       cobra.ArbitraryArgs, // RunE says it better
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("there is no command %s; did you mean %s?", args[0], nearest(args[0], commandNames(root)))
		}
		return fmt.Errorf("a command is missing: %s; see prtwatch --help", strings.Join(commandNames(root), ", "))
	}
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&p.sources.File, "config", "", "read the configuration from this YAML `FILE`")
	root.PersistentFlags().StringArrayVar(&p.sources.Set, "set", nil, "set one `KEY=VALUE` of the configuration (repeatable)")
	root.AddCommand(p.subcommands()...)
	return root
}

func commandNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// flagError suggests the flag that was meant.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	given := "--" + unknown.GetSpecifiedName()
	return fmt.Errorf("%s has no flag %s; did you mean %s?", cmd.CommandPath(), given, nearest(given, names))
}

// nearest returns the name with the fewest letters to change.
func nearest(given string, names []string) string {
	best, least := "", 0
	for _, name := range names {
		if d := levenshtein.ComputeDistance(given, name); best == "" || d < least {
			best, least = name, d
		}
	}
	return best
}
