package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const file = "dashboards/prtwatch.json"

func TestTheFileIsWhatThisWrites(t *testing.T) {
	want, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("it is not; write it again: go -C deploy/grafana run . > deploy/grafana/" + file)
	}
}

// Grafana leaves out what it does not know and says nothing.
func TestTheFileHasNothingThatGrafanaDoesNotKnow(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var board dashboard.Dashboard
	if err := board.UnmarshalJSONStrict(text); err != nil {
		t.Fatal(err)
	}
	if err := board.Validate(); err != nil {
		t.Error(err)
	}
}

// Two panels in one place cover each other, and two of one number are taken for one.
func TestPanelsHaveTheirOwnPlacesAndNumbers(t *testing.T) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	ids, places := map[int]string{}, map[[2]int]string{}
	for _, p := range board.Panels {
		if other, taken := ids[p.ID]; taken || p.ID == 0 {
			t.Errorf("%q and %q are both number %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%q is wider than the page", p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, taken := places[at]; taken {
					t.Fatalf("%q covers %q", p.Title, other)
				}
				places[at] = p.Title
			}
		}
	}
	if len(board.Panels) < 40 {
		t.Errorf("only %d panels", len(board.Panels))
	}
}
