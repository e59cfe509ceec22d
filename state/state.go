// Package state keeps one profile a user in Pebble: in which hours he was seen from which
// address and network, and which alerts he caused lately. It owns the encoding of a
// profile, the bounds of one, and the store with its directory, cache and checkpoints.
//
// It must never know Kafka, rules or clocks: what is in Pebble is a cache of a log that
// somebody else reads, so it may lag behind that log and never lead it, and time is
// whatever the sign-ins say. Start reading at Partition, then Profile.
package state
