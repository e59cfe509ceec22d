package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

func (p *program) topicsCommand() *cobra.Command {
	var create, input bool
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "show the topics that are needed and how they differ from what is there",
		Long: `Shows each topic that is needed, whether it is as it must be, and what to do where it is not.
With --create those that are missing are made first, but for the input topics, which are
made by whoever exports; --input makes those too, to try things out. What is there is never
changed.

The exit code is 0 when topics and their settings are not in the way of prtwatch run, and 2
when one is. Rights to read and write, offsets and state.dir are asked by run alone.`,
		Example: `  prtwatch topics --config prtwatch.yaml
  prtwatch topics --create --set topics.partitions=8 --set topics.replication=3`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			if input && !create {
				return wrong(errors.New("--input: says that --create makes the input topics too; add --create"))
			}
			s, err := p.settings()
			if err != nil {
				return err
			}
			return p.topics(ctx, s, create, input)
		}),
	}
	cmd.Flags().BoolVar(&create, "create", false, "make the topics that are missing")
	cmd.Flags().BoolVar(&input, "input", false, "with --create: make the input topics too")
	return cmd
}

func (p *program) topics(ctx context.Context, s *settings.Settings, create, input bool) error {
	log := newLogger(s.Log, p.stderr)
	client, err := connect(ctx, s, s.Kafka, "kafka", log)
	if err != nil {
		return err
	}
	defer client.Close()
	inputClient, err := connect(ctx, s, s.InputCluster(), s.InputSection(), log)
	if err != nil {
		return err
	}
	defer inputClient.Close()
	admin, inputAdmin := kadm.NewClient(client), kadm.NewClient(inputClient)
	if create {
		created, err := createTopics(ctx, s, admin, inputAdmin, input)
		for _, name := range created {
			fmt.Fprintf(p.stdout, "created %s\n", name)
		}
		if err != nil {
			return err
		}
	}
	differences, err := kafka.Check(ctx, admin, s.Topics, inputAdmin, s.Input.Topics)
	if err != nil {
		return err
	}
	if err := p.showTopics(s, differences); err != nil {
		return quietPipe(err)
	}
	if err := kafka.Fatal(differences); err != nil {
		return wrong(err)
	}
	return nil
}

func createTopics(ctx context.Context, s *settings.Settings, admin, inputAdmin *kadm.Client, input bool) (created []string, err error) {
	created, err = kafka.Create(ctx, admin, s.Topics)
	if err != nil || !input {
		return created, err
	}
	inputs, err := kafka.CreateInput(ctx, inputAdmin, s.Input.Topics, s.Topics.Partitions, s.Topics.Replication)
	return append(created, inputs...), err
}

// showTopics writes a table of the topics. What stops a run is not in it: that is the error.
func (p *program) showTopics(s *settings.Settings, differences []kafka.Difference) error {
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TOPIC\tFOR\tIS\tNEEDED")
	row := func(topic, use, needed string) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", topic, use, stateOf(topic, differences), needed)
	}
	for _, topic := range s.Input.Topics {
		row(topic, "input", "any partitions")
	}
	for _, spec := range s.Topics.Specs() {
		needed := []string{fmt.Sprintf("partitions=%d", spec.Partitions)}
		for _, setting := range spec.Settings {
			needed = append(needed, setting.Name+"="+setting.Value)
		}
		row(spec.Topic, spec.Key, strings.Join(needed, " "))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, d := range differences {
		if d.Fatal {
			continue
		}
		if _, err := fmt.Fprintln(p.stdout, "warning:", d); err != nil {
			return err
		}
	}
	return nil
}

// stateOf sums up in a word or two how a topic differs from what is needed.
func stateOf(topic string, differences []kafka.Difference) string {
	is := "right"
	for _, d := range differences {
		switch {
		case d.Topic != topic:
		case d.Setting == kafka.Existence:
			return d.Have
		case d.Fatal:
			is = "wrong"
		case is == "right":
			is = "usable"
		}
	}
	return is
}
