package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version and commit are set by `-ldflags "-X main.version=... -X main.commit=..."`; empty,
// what the Go toolchain noted is used.
var version, commit string

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print version, commit and Go version",
		Example: "  prtwatch version",
		Args:    cobra.NoArgs,
		RunE: does(func(context.Context, []string) error {
			version, commit := buildVersion()
			_, err := fmt.Fprintf(p.stdout, "prtwatch %s\ncommit %s\n%s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return quietPipe(err)
		}),
	}
}

// buildVersion is what this binary was built from, as far as it is known.
func buildVersion() (string, string) {
	v, c := version, commit
	info, ok := debug.ReadBuildInfo()
	if ok && v == "" {
		v = info.Main.Version
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	if ok && c == "" {
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		c = settings["vcs.revision"]
		if c != "" && settings["vcs.modified"] == "true" {
			c += " (modified)"
		}
	}
	if c == "" {
		c = "unknown"
	}
	return v, c
}
