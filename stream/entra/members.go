package entra

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"unsafe"
)

// members are the fields of a struct by the names of their json tags, as encoding/json finds them.
type members struct {
	names   []string
	targets []target
	order   []*key // of the keys in the records before
}

// target is where the value of a key goes: one of these.
type target struct {
	text   *string          // a text or null
	raw    *json.RawMessage // whatever it is; part of the message
	object *members         // an object or null
}

// membersOf returns the members of the struct that v points at, which is what they fill.
func membersOf(v any) *members {
	m := &members{}
	m.add(reflect.ValueOf(v).Elem())
	if len(m.names) > 64 {
		panic("BUG: walker.object has a bit of a word for each name")
	}
	return m
}

// add takes in the fields of a struct, those of embedded ones after its own, which hide them.
func (m *members) add(v reflect.Value) {
	var embedded []reflect.Value
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			embedded = append(embedded, v.Field(i))
			continue
		}
		name := field.Tag.Get("json")
		if m.find([]byte(name)) >= 0 {
			continue
		}
		var t target
		switch to := v.Field(i).Addr().Interface().(type) {
		case *string:
			t.text = to
		case *json.RawMessage:
			t.raw = to
		default:
			t.object = membersOf(to)
		}
		m.names, m.targets = append(m.names, name), append(m.targets, t)
	}
	for _, e := range embedded {
		m.add(e)
	}
}

// find returns the index of a name, in any case, or -1. The key is ASCII. It is asked for keys that
// were not remembered, which are few.
func (m *members) find(key []byte) int {
	return slices.IndexFunc(m.names, func(name string) bool {
		return len(name) == len(key) && bytes.EqualFold(key, []byte(name))
	})
}

// key is one that was met.
type key struct {
	text  []byte // with the quotes and the colon
	index int    // of the name, -1 where nobody wants it
	// passed are values that were walked over lately, so that they are JSON, whoever has them: of the
	// policies that were applied, which are half of a record or more, a tenant has a few forms.
	passed [8][]byte
	next   int // of passed, to be replaced
}

const (
	// ahead is how many keys that may be missing are looked beyond.
	ahead = 4
	// maxKeys bounds the keys of one object that are remembered, maxKeyBytes each of them.
	maxKeys, maxKeyBytes = 128, 128
	// keyBytes is what a key takes beside its text and the values.
	keyBytes = int(unsafe.Sizeof(key{}))
	// Of how many bytes a value is that is remembered. It costs a copy, so it is not a short one.
	leastPassed, mostPassed = 128, 8 << 10
	// maxRemembered is how many bytes of keys and values are remembered before all of them are
	// forgotten, between two records: what is common is back with the next ones.
	maxRemembered = 1 << 20
)

// forget ends with what was remembered of records.
func (m *members) forget() {
	m.order = nil
	for _, t := range m.targets {
		if t.object != nil {
			t.object.forget()
		}
	}
}
