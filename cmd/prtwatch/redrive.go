package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/redrive"
)

func (p *program) redriveCommand() *cobra.Command {
	var all bool
	var since string
	which := redrive.Selection{}
	cmd := &cobra.Command{
		Use:   "redrive",
		Short: "send the dead letters that can be read now back to be judged",
		Long: `Reads topics.dead_letter up to its end, decodes each dead letter with the decoder of this version,
and writes the sign-ins that can be read now to topics.signins, where prtwatch run judges them. Do
this after an upgrade whose changes say that more is read. What it did is counted on standard error.

It begins where the last redrive ended (the offset of --group in topics.dead_letter, which moves only
over what was tried), so a second run takes only what is new. What could not be read before is tried
again with --all, or --since, --from and --reason, which leave the offset where it was if anything
between was not tried. Nothing is taken out of topics.dead_letter.

A sign-in that is sent twice alerts once, under the same id, as long as its user's profile remembers
the alert (the newest 256). A sign-in counts for the hour in which it happened; alerts that came because
it was missing stay. One that is more than state.lateness behind its user is judged on what is left of
the time before it, and its alert says late. One that is older than that and the window of 14 days
(16 days by default) is left, for nothing is known before it. What was cut at 900 KiB cannot be redriven.
The age of an alert counts from when its dead letter was written.

The exit code is 0 whether or not all could be read.`,
		Example: `  prtwatch redrive --dry-run --config prtwatch.yaml
  prtwatch redrive --config prtwatch.yaml
  prtwatch redrive --all --reason bad_time`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) (err error) {
			if which.Since, err = p.redriveFlags(which, all, since); err != nil {
				return wrong(err)
			}
			if all {
				which.From = redrive.FromStart
			}
			s, err := p.settings()
			if err != nil {
				return err
			}
			return p.redrive(ctx, s, which)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "begin with the first dead letter that is there")
	cmd.Flags().StringVar(&since, "since", "", "begin with the first that was written at this `TIME` or later, such as 2026-11-01T00:00:00Z")
	cmd.Flags().Int64Var(&which.From, "from", redrive.FromPosition, "begin at this `OFFSET` of the topic")
	cmd.Flags().StringSliceVar(&which.Reasons, "reason", nil, "only those of this `REASON` (repeatable)")
	cmd.Flags().StringVar(&which.Group, "group", "prtwatch-redrive", "the `GROUP` whose offset says what was tried")
	cmd.Flags().BoolVar(&which.DryRun, "dry-run", false, "send nothing; print what would be sent")
	cmd.Flag("from").DefValue = "0" // so that none is shown
	return cmd
}

// redriveFlags checks the flags, and returns the time of --since.
func (p *program) redriveFlags(which redrive.Selection, all bool, since string) (at time.Time, err error) {
	begins := 0
	for _, given := range []bool{all, since != "", which.From != redrive.FromPosition} {
		if given {
			begins++
		}
	}
	for _, reason := range which.Reasons {
		if known := redrive.Reasons(); !slices.Contains(known, reason) {
			return at, fmt.Errorf("--reason %s: there is none; give one of %s", reason, strings.Join(known, ", "))
		}
	}
	switch {
	case begins > 1:
		return at, errors.New("--all, --since and --from each say where to begin; give one of them")
	case which.From < redrive.FromPosition:
		return at, fmt.Errorf("--from %d: give an offset, 0 or more", which.From)
	case which.Group == "":
		return at, errors.New("--group: is empty; name a consumer group, such as prtwatch-redrive")
	case since == "":
		return at, nil
	}
	if at, err = time.Parse(time.RFC3339, since); err != nil {
		err = fmt.Errorf("--since %q: is no time such as 2026-11-01T00:00:00Z", since)
	}
	return at, err
}

func (p *program) redrive(ctx context.Context, s *settings.Settings, which redrive.Selection) error {
	judge, err := detector.New(s.Detection)
	if err != nil {
		return wrong(err)
	}
	log := newLogger(s.Log, p.stderr)
	client, err := connect(ctx, s, s.Kafka, "kafka", log)
	if err != nil {
		return err
	}
	uses := kafka.Uses{"dead_letter": {kadm.OpRead}, "signins": {kadm.OpWrite}}
	differences, err := kafka.CheckUses(ctx, kadm.NewClient(client), s.Topics, uses)
	client.Close()
	if err != nil {
		return err
	}
	if err := kafka.Fatal(differences); err != nil {
		return wrong(err)
	}
	options, err := s.Kafka.Options(log)
	if err != nil {
		return wrong(err)
	}
	var printing error
	which.Found = func(l redrive.Letter, in *detector.SignIn) {
		if printing == nil {
			_, printing = fmt.Fprintln(p.stdout, foundLine(l, in))
		}
	}
	report, err := redrive.New(redrive.Deps{
		Client: options, Topics: s.Topics, UserKey: judge.UserKey, AtLeastOnce: s.Delivery == settings.AtLeastOnce,
		Kept: detector.Window*time.Hour + s.State.Lateness,
	}, which).Run(ctx)
	if err == nil || report.Read > 0 {
		p.reportRedrive(s.Topics.DeadLetter, which, report)
	}
	return errors.Join(err, quietPipe(printing))
}

// foundLine is what a dry run prints of a sign-in: its dead letter, where that came from, and the sign-in.
func foundLine(l redrive.Letter, in *detector.SignIn) string {
	from := fmt.Sprintf("%s/%d@%d", detector.Printable(l.Topic), l.Partition, l.At)
	if l.Record >= 0 {
		from += fmt.Sprintf("#%d", l.Record)
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s", l.Offset, detector.Printable(l.Reason), from,
		in.Generated.Format(time.RFC3339), detector.Printable(in.ID), detector.Printable(in.UPN))
}

// reportRedrive writes a line for each count, zero or not, so that scripts find it.
func (p *program) reportRedrive(topic string, which redrive.Selection, r redrive.Report) {
	redriven := "redriven:"
	if which.DryRun {
		redriven = "readable:" // by a run that is not dry
	}
	fmt.Fprintf(p.stderr, "read:       %d dead letters of %s, from offset %d\n", r.Read, topic, r.From)
	fmt.Fprintf(p.stderr, "before:     %d offsets; --all tries them again\n", r.Before)
	fmt.Fprintf(p.stderr, "%-11s %s, which are %d sign-ins\n", redriven, sumOf(r.Redriven), r.SignIns)
	fmt.Fprintf(p.stderr, "unreadable: %s\n", sumOf(r.Unreadable))
	fmt.Fprintf(p.stderr, "truncated:  %d\n", r.Truncated)
	fmt.Fprintf(p.stderr, "too old:    %d sign-ins\n", r.TooOld)
	fmt.Fprintf(p.stderr, "skipped:    %s\n", sumOf(r.Skipped))
	fmt.Fprintf(p.stderr, "next:       offset %d, group %s\n", r.Position, which.Group)
}
