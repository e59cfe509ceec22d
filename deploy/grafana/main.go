// Command grafana writes the dashboard to standard output. It owns what is on it, in which row; it must
// never know anything of a Grafana that shows it. It is a module of its own, so that prtwatch does not depend on
// Grafana's builders. Start at rows.
//
//	go -C deploy/grafana run . > deploy/grafana/dashboards/prtwatch.json
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	text, err := encode()
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "writing the dashboard:", err)
		os.Exit(1)
	}
}

// encode returns the dashboard as Grafana reads it.
func encode() ([]byte, error) {
	board, err := build()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(board)
	return out.Bytes(), err
}

func build() (dashboard.Dashboard, error) {
	b := dashboard.NewDashboardBuilder("prtwatch").
		Uid("prtwatch").
		Description("Sign-ins from Kafka, judged: how late, how far behind, what was alerted, and what the processes are doing.").
		Tags([]string{"prtwatch", "kafka"}).
		Readonly().
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Time("now-1h", "now").
		Refresh("10s").
		Timezone("browser").
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(labels("job", "Job", "label_values(prtwatch_build_info, job)")).
		WithVariable(labels("namespace", "Namespace", `label_values(prtwatch_build_info{job="$job"}, namespace)`)).
		WithVariable(labels("instance", "Instance", `label_values(prtwatch_build_info{job="$job", namespace=~"$namespace"}, instance)`).
			Multi(true).IncludeAll(true).AllValue(".*").Current(all()))
	id := uint32(0)
	next := func() uint32 { id++; return id }
	for _, r := range rows {
		b = b.WithRow(dashboard.NewRowBuilder(r.title).Id(next()))
		for _, p := range r.panels {
			if p.stat {
				b = b.WithPanel(p.figure().Id(next()))
			} else {
				b = b.WithPanel(p.graph().Id(next()))
			}
		}
	}
	return b.Build()
}

// labels is a variable of what a label may be.
func labels(name, title, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(title).
		Datasource(source()).
		Query(dashboard.StringOrMap{String: &query}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc)
}

func all() dashboard.VariableOption {
	text, value := "All", "$__all"
	return dashboard.VariableOption{
		Text: dashboard.StringOrArrayOfString{String: &text}, Value: dashboard.StringOrArrayOfString{String: &value},
	}
}

func source() common.DataSourceRef {
	kind, uid := "prometheus", "${datasource}"
	return common.DataSourceRef{Type: &kind, Uid: &uid}
}

// targets adds the panel's queries to it. In a query, # stands for the choice of job, namespace and instances.
func (p panel) targets(add func(*prometheus.DataqueryBuilder)) {
	for i, q := range p.queries {
		expr := strings.NewReplacer("{#}", "{"+chosen+"}", "#", chosen).Replace(q.expr)
		query := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Expr(expr).LegendFormat(q.legend).Datasource(source())
		if p.stat {
			query = query.Instant()
		} else {
			query = query.Range()
		}
		add(query)
	}
}

// chosen are the instances of one installation, which is a job in a namespace, as it is to the rules. There is no choice of all namespaces: Grafana
// would begin with it, and two installations would be added up. Where instances have no such label there is nothing to choose
// from, the variable is empty (MultiValueVariable of @grafana/scenes), and to Prometheus that is who has no such label.
const chosen = `job="$job", namespace=~"$namespace", instance=~"$instance"`

// figure is a panel that shows one number.
func (p panel) figure() *stat.PanelBuilder {
	b := stat.NewPanelBuilder().Title(p.title).Description(p.about).Unit(cmp.Or(p.unit, "none")).Datasource(source()).Height(4).Span(4).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
		GraphMode(common.BigValueGraphModeNone).ColorMode(common.BigValueColorModeValue)
	steps := []dashboard.Threshold{{Color: "green"}}
	if p.bad != 0 {
		steps = append(steps, dashboard.Threshold{Value: &p.bad, Color: "red"})
	}
	if p.good != 0 {
		steps = []dashboard.Threshold{{Color: "red"}, {Value: &p.good, Color: "green"}}
	}
	b = b.Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps))
	p.targets(func(q *prometheus.DataqueryBuilder) { b = b.WithTarget(q) })
	return b
}

// graph is a panel that shows figures over time.
func (p panel) graph() *timeseries.PanelBuilder {
	b := timeseries.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).Datasource(source()).Height(8).Span(8).
		Min(0).LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	p.targets(func(q *prometheus.DataqueryBuilder) { b = b.WithTarget(q) })
	return b
}
