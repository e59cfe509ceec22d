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
			_, err := fmt.Fprintf(p.stdout, "prtwatch %s\ncommit %s\n%s %s/%s\n", buildVersion(), buildCommit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return quietPipe(err)
		}),
	}
}

// buildVersion is the version of this binary; devel where nobody gave it one.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// buildCommit is the commit that it was built from; unknown where that was not noted.
func buildCommit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	noted := map[string]string{}
	for _, s := range info.Settings {
		noted[s.Key] = s.Value
	}
	switch {
	case noted["vcs.revision"] == "":
		return "unknown"
	case noted["vcs.modified"] == "true":
		return noted["vcs.revision"] + " (modified)"
	}
	return noted["vcs.revision"]
}
