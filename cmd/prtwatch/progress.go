package main

import (
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/export"
)

// newBar returns a progress bar for standard error, nil where nobody would see it or where
// the output goes to the same terminal: the two would write over each other. printing says
// that standard output is written to meanwhile. A negative total is one that is not known.
func (p *program) newBar(what string, printing bool, total int64, options ...progressbar.Option) *progressbar.ProgressBar {
	if !isTerminal(p.stderr) || printing && isTerminal(p.stdout) {
		return nil
	}
	return progressbar.NewOptions64(total, append(options,
		progressbar.OptionSetWriter(p.stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())...)
}

// showProgress shows how much of the files was read until stop is called.
func (p *program) showProgress(what string, files []*export.File) (stop func()) {
	total := int64(0)
	for _, f := range files {
		if f.Size < 0 {
			total = -1
			break
		}
		total += f.Size
	}
	bar := p.newBar(what, true, total, progressbar.OptionShowBytes(true))
	if bar == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-done:
				_ = bar.Finish()
				return
			}
			read := int64(0)
			for _, f := range files {
				read += f.Progress()
			}
			_ = bar.Set64(read)
		}
	}()
	return func() { close(done); <-ended }
}
