package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
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
			names := commandNames(root)
			if meant := settings.Nearest(args[0], names); meant != "" {
				return fmt.Errorf("there is no command %s; did you mean %s?", args[0], meant)
			}
			return fmt.Errorf("there is no command %s; there are %s", args[0], strings.Join(names, ", "))
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
	for _, c := range root.Commands() {
		if c.Use == c.Name() { // cobra.NoArgs calls an argument an unknown command
			c.Args = noArguments
		}
	}
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

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes no arguments; leave out %s, or see %s --help", cmd.CommandPath(), strings.Join(args, " "), cmd.CommandPath())
}

// flagError says of a flag that it does not exist, or what would be right for it.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &invalid):
		if right := rightValue(invalid.GetFlag().Value.Type()); right != "" {
			return fmt.Errorf("--%s %q: give %s", invalid.GetFlag().Name, invalid.GetValue(), right)
		}
	}
	return err
}

// unknownFlag suggests the flag that was meant.
func unknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	given := unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() != "" {
		return fmt.Errorf("%s has no flag -%s; see %s --help", cmd.CommandPath(), given, cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if meant := settings.Nearest(given, names); meant != "" {
		return fmt.Errorf("%s has no flag --%s; did you mean --%s?", cmd.CommandPath(), given, meant)
	}
	return fmt.Errorf("%s has no flag --%s; see %s --help", cmd.CommandPath(), given, cmd.CommandPath())
}

// rightValue is what a flag of the type takes; empty where any text will do.
func rightValue(kind string) string {
	switch kind {
	case "duration":
		return "a time with its unit, such as 20s or 10m"
	case "int", "int64":
		return "a whole number, such as 10"
	case "uint64":
		return "a whole number, 0 or more"
	case "float64":
		return "a number, such as 10 or 0.5"
	case "bool":
		return "true or false"
	}
	return ""
}
