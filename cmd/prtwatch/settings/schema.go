package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// schema is what keys there are, read from the `koanf` tags of a configuration struct.
type schema struct {
	leaves   []leaf // in the order of the struct
	sections []string
}

// leaf is one key that holds a value.
type leaf struct {
	key   string // dotted: kafka.sasl.user
	kind  reflect.Type
	index []int // of the field, for reflect.Value.FieldByIndex
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// schemaOf reads the struct of type t.
func schemaOf(t reflect.Type) *schema {
	s := new(schema)
	s.walk(t, "", nil)
	return s
}

func (s *schema) walk(t reflect.Type, section string, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("koanf"), ",")
		at := append(slices.Clone(index), i)
		switch {
		case options == "squash":
			s.walk(f.Type, section, at)
		case name == "" || name == "-":
		case f.Type.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(textUnmarshaler):
			s.sections = append(s.sections, section+name)
			s.walk(f.Type, section+name+".", at)
		default:
			s.leaves = append(s.leaves, leaf{key: section + name, kind: f.Type, index: at})
		}
	}
}

func (s *schema) leaf(key string) (leaf, bool) {
	i := slices.IndexFunc(s.leaves, func(l leaf) bool { return l.key == key })
	if i < 0 {
		return leaf{}, false
	}
	return s.leaves[i], true
}

func (s *schema) isSection(key string) bool { return key == "" || slices.Contains(s.sections, key) }

// below names the keys and sections directly in the section.
func (s *schema) below(section string) string {
	var names []string
	for _, key := range s.keys() {
		if name, ok := strings.CutPrefix(key, section+"."); ok && !strings.Contains(name, ".") {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

func (s *schema) keys() []string {
	keys := slices.Clone(s.sections)
	for _, l := range s.leaves {
		keys = append(keys, l.key)
	}
	return keys
}

// nearest returns the key, or section, that was most likely meant, empty where none is near:
// one that differs by a letter, one with the same last name in another section, or Nearest.
func (s *schema) nearest(key string) string {
	meant := Nearest(key, s.keys())
	if meant != "" && levenshtein.ComputeDistance(key, meant) == 1 {
		return meant
	}
	for _, candidate := range s.keys() {
		if lastName(candidate) == lastName(key) {
			return candidate
		}
	}
	return meant
}

func lastName(key string) string { return key[strings.LastIndex(key, ".")+1:] }

// unknown is the error for a key that does not exist. spell writes a key the way that the
// source would have it.
func (s *schema) unknown(key string, spell func(string) string) error {
	if key == "" {
		return fmt.Errorf("the key is missing; name one, such as %s", spell("kafka.brokers"))
	}
	if meant := s.nearest(key); meant != "" {
		return fmt.Errorf("there is no key %s; did you mean %s?", key, spell(meant))
	}
	if i := strings.LastIndex(key, "."); i > 0 && s.isSection(key[:i]) {
		return fmt.Errorf("there is no key %s; %s has %s", key, key[:i], s.below(key[:i]))
	}
	return fmt.Errorf("there is no key %s; prtwatch config prints all there are", key)
}

// takesList reports whether the value is a list.
func (l leaf) takesList() bool {
	return l.kind.Kind() == reflect.Slice && !reflect.PointerTo(l.kind).Implements(textUnmarshaler)
}

// convert turns what was given into the type of the field.
func (l leaf) convert(given value) (reflect.Value, error) {
	out := reflect.New(l.kind).Elem()
	isList := l.takesList()
	switch {
	case isList && !given.isList:
		return out, fmt.Errorf("needs a list, such as [%s]", given.shown(l.key))
	case !isList && given.isList:
		return out, fmt.Errorf("needs one value, not a list")
	case !isList:
		return out, convertText(out, given.text, given.shown(l.key))
	}
	out.Set(reflect.MakeSlice(l.kind, len(given.list), len(given.list)))
	for i, text := range given.list {
		if err := convertText(out.Index(i), text, given.shown(l.key)); err != nil {
			return out, err
		}
	}
	return out, nil
}
