package report

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what the figures were made on, in one line. Kafka is the broker's version.
func Machine(ctx context.Context, repository, kafka string) string {
	return fmt.Sprintf("%s/%s, %d cores (%s), %s of memory; %s, Java %s, Apache Kafka %s; commit %s",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), memory(), runtime.Version(), java(ctx), kafka, commit(ctx, repository))
}

// processor is the model of the first core.
func processor() string {
	if model := procField("/proc/cpuinfo", "model name"); model != "" {
		return model
	}
	return "unknown processor"
}

func memory() string {
	kb, err := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", float64(kb)/(1<<20))
}

// procField is the value of the first line `name: value`, empty where there is none.
func procField(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// java is the version that `java -version` has between quotes.
func java(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if _, rest, ok := strings.Cut(string(out), `"`); ok && err == nil {
		version, _, _ := strings.Cut(rest, `"`)
		return version
	}
	return "unknown"
}

// commit is what the repository is at, and whether it differs from that.
func commit(ctx context.Context, repository string) string {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", repository}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	id, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "unknown"
	}
	if changed, err := git("status", "--porcelain"); err != nil || changed != "" {
		id += " with changes"
	}
	return id
}
