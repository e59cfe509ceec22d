package main

import (
	"cmp"
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
func buildVersion() (ofVersion, ofCommit string) {
	ofVersion, ofCommit = version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if ofVersion == "" && info.Main.Version != "(devel)" {
			ofVersion = info.Main.Version
		}
		if ofCommit == "" {
			ofCommit = vcsCommit(info)
		}
	}
	return cmp.Or(ofVersion, "devel"), cmp.Or(ofCommit, "unknown")
}

// vcsCommit is the commit that the Go toolchain noted, if it did.
func vcsCommit(info *debug.BuildInfo) string {
	noted := map[string]string{}
	for _, s := range info.Settings {
		noted[s.Key] = s.Value
	}
	if noted["vcs.revision"] != "" && noted["vcs.modified"] == "true" {
		return noted["vcs.revision"] + " (modified)"
	}
	return noted["vcs.revision"]
}
