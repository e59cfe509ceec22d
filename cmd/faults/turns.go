package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// turns are what the rounds take turns in.
type turns struct {
	seeds                 []uint64
	protocols, deliveries []string
}

// turn is what one round has.
type turn struct {
	seed               uint64
	number             int // of the rounds with this seed, from 1 on
	protocol, delivery string
}

// parseTurns reads three lists of the command line. A seed that is 0 is drawn.
func parseTurns(seeds, protocols, deliveries string) (t turns, err error) {
	for text := range strings.SplitSeq(seeds, ",") {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return t, fmt.Errorf("--seed %s: give a number from 0 on, or some with commas between", seeds)
		}
		if seed == 0 {
			seed = rand.Uint64()
		}
		t.seeds = append(t.seeds, seed)
	}
	if protocols == "both" {
		protocols = "classic,consumer"
	}
	if t.protocols, err = oneOf("--protocol", protocols, "classic", "consumer"); err != nil {
		return t, err
	}
	t.deliveries, err = oneOf("--delivery", deliveries, "exactly-once", "at-least-once")
	return t, err
}

func oneOf(flag, list string, known ...string) ([]string, error) {
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s %s: give %s, or some of them with commas between", flag, list, strings.Join(known, " or "))
		}
	}
	return names, nil
}

// of returns what the n-th round has, counted from 1. Its seed, number, protocol and delivery
// alone decide it, so a round of a list can be had again by itself.
func (t turns) of(n int) turn {
	n--
	return turn{
		seed: t.seeds[n%len(t.seeds)], number: 1 + n/len(t.seeds),
		protocol: t.protocols[n%len(t.protocols)], delivery: t.deliveries[n%len(t.deliveries)],
	}
}
