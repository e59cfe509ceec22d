package state

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// folders are what damaged folders are made of. The other store has lived like this one, and
// its files have the same names and often the same sizes; but its users came at other hours.
type folders struct {
	life, stranger          *life // of the store of today and yesterday, and of the other one
	today, yesterday, other vfs.FS
}

func newFolders(t tb) *folders {
	f := &folders{life: newLife(t, 1000)}
	f.yesterday, f.today = f.life.folders()
	for range 100 { // what Pebble does in the background has a number too, sooner or later
		f.stranger = newLife(t, 1007)
		if _, f.other = f.stranger.folders(); slices.Equal(files(t, f.other), files(t, f.today)) {
			break
		}
	}
	return f
}

// folders returns the closed folder of a life in its middle, and at its end.
func (l *life) folders() (yesterday, today vfs.FS) {
	fs := vfs.NewMem()
	must(l.t, l.during(fs, l.youth))
	yesterday = clone(l.t, fs)
	must(l.t, l.during(fs, l.age))
	must(l.t, l.during(fs, l.youth))
	return yesterday, fs
}

func clone(t tb, fs vfs.FS) vfs.FS {
	t.Helper()
	copied := vfs.NewMem()
	ok, err := vfs.Clone(fs, copied, "state", "state")
	must(t, err)
	if !ok {
		t.Fatal("there is no folder")
	}
	return copied
}

// files returns the paths of all files of a folder.
func files(t tb, fs vfs.FS) (paths []string) {
	t.Helper()
	for _, dir := range []string{"state", "state/pebble"} {
		names, err := fs.List(dir)
		must(t, err)
		for _, name := range names {
			if info, err := fs.Stat(dir + "/" + name); err == nil && !info.IsDir() {
				paths = append(paths, dir+"/"+name)
			}
		}
	}
	slices.Sort(paths)
	return paths
}

func content(t tb, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	must(t, err)
	data, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	return data
}

func put(t tb, fs vfs.FS, path string, data []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(data)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

// spoiled is a copy of today's folder that something is done to.
type spoiled struct {
	*folders
	t    tb
	rng  *rand.Rand
	fs   vfs.FS
	what []string // was done
}

func (d *spoiled) did(format string, args ...any) {
	d.what = append(d.what, fmt.Sprintf(format, args...))
}

func pick[T any](d *spoiled, of []T) T { return of[d.rng.IntN(len(of))] }

// take copies a file of another folder, where this one has another or none of that name.
func (d *spoiled) take(from vfs.FS, whose string) {
	path := pick(d, files(d.t, from))
	put(d.t, d.fs, path, content(d.t, from, path))
	d.did("%s is that of %s", path, whose)
}

// byte draws a byte of the folder.
func (d *spoiled) byte() (path string, data []byte, n int) {
	var all []string // the path of each byte
	for _, path := range files(d.t, d.fs) {
		all = append(all, slices.Repeat([]string{path}, len(content(d.t, d.fs, path)))...)
	}
	path = pick(d, all)
	data = content(d.t, d.fs, path)
	return path, data, d.rng.IntN(len(data))
}

var damages = []func(*spoiled){
	func(d *spoiled) {
		path, data, n := d.byte()
		bit := d.rng.IntN(8)
		data[n] ^= 1 << bit
		put(d.t, d.fs, path, data)
		d.did("bit %d of byte %d of %s is flipped", bit, n, path)
	},
	func(d *spoiled) {
		path, data, n := d.byte()
		put(d.t, d.fs, path, data[:n])
		d.did("%s is cut to %d of %d bytes", path, n, len(data))
	},
	func(d *spoiled) {
		path := pick(d, files(d.t, d.fs))
		must(d.t, d.fs.Remove(path))
		d.did("%s is lost", path)
	},
	func(d *spoiled) {
		path := pick(d, files(d.t, d.fs))
		size := len(content(d.t, d.fs, path)) * d.rng.IntN(2)
		put(d.t, d.fs, path, make([]byte, size))
		d.did("%s is %d zeros", path, size)
	},
	func(d *spoiled) {
		for range 1 + d.rng.IntN(3) {
			d.take(d.other, "another store")
		}
	},
	func(d *spoiled) {
		for range 1 + d.rng.IntN(3) {
			d.take(d.yesterday, "yesterday")
		}
	},
	func(d *spoiled) {
		for _, path := range files(d.t, d.yesterday) {
			put(d.t, d.fs, path, content(d.t, d.yesterday, path))
		}
		d.did("yesterday's folder was laid over it")
	},
	func(d *spoiled) {
		d.fs = clone(d.t, d.yesterday)
		d.did("it is yesterday's")
	},
}

// What became of a damaged folder.
const (
	refused  = "refused with a remedy"
	setAside = "set aside, and empty"
	older    = "answered as of an older checkpoint"
	whole    = "answered"
)

var remedy = regexp.MustCompile(`set state.dir to another folder|remove it`)

// opened starts on the folder, and again where damage was found while it was read.
func (d *spoiled) opened() (became string, err error) {
	for range 2 {
		s, err := openNarrow(d.fs)
		switch {
		case err != nil && remedy.MatchString(err.Error()):
			return refused, nil
		case err != nil:
			return "", fmt.Errorf("the start fails, and names no remedy: %w", err)
		}
		became, unreadable, wrong := d.answers(s)
		if err := s.Close(); wrong != nil || unreadable == nil && err == nil {
			return became, wrong
		}
		d.fs = clone(d.t, d.fs) // the process has ended: a Pebble that was left alone holds no lock any more
	}
	return "", errors.New("the second start finds damage still")
}

// answers reads all that a store holds. Each profile is to be what the topic has at the
// checkpoint of its partition.
func (d *spoiled) answers(s *Store) (became string, unreadable, wrong error) {
	if _, err := d.fs.Stat("state/pebble.corrupt"); err == nil {
		became = setAside
	}
	life := d.life
	if s.Instance() == d.stranger.instance { // its name and its options are the other's: so must all of it be
		life = d.stranger
	}
	for number, topic := range life.topics {
		p := lease(d.t, s, number)
		cp, found, err := p.Checkpoint()
		switch {
		case err != nil:
			return "", err, nil
		case cp.Offset > int64(len(topic)):
			return "", nil, fmt.Errorf("partition %d is at %d, its topic ends at %d", number, cp.Offset, len(topic))
		case found && became == setAside:
			return "", nil, fmt.Errorf("a store was set aside, and partition %d is at %d", number, cp.Offset)
		case found && s.Instance() != life.instance:
			return "", nil, fmt.Errorf("the store of %s answers as %s", life.instance, s.Instance())
		case found && cp.Offset < int64(len(topic)):
			became = older
		case found && became != older:
			became = whole
		}
		if unreadable, wrong := d.holds(s, p, topic, topic.at(cp.Offset)); unreadable != nil || wrong != nil {
			return "", unreadable, wrong
		}
	}
	if became == "" {
		wrong = errors.New("the store is empty, and none was set aside")
	}
	return became, nil, wrong
}

// holds compares what a partition has with what it should have, key by key as a sign-in reads
// it, and all of it as a sweep does.
func (d *spoiled) holds(s *Store, p *Partition, all topic, want map[string]string) (unreadable, wrong error) {
	for _, r := range all {
		value, err := p.Encoded(r.user)
		if err != nil {
			return err, nil
		}
		if string(value) != want[r.user] {
			return nil, fmt.Errorf("partition %d: the profile of %s is %x, not %x", p.number, r.user, value, want[r.user])
		}
	}
	swept := map[string]string{}
	prefix := p.prefix(kindProfile)
	unreadable = s.use(func(db *pebble.DB) error {
		iter, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: append(prefix[:len(prefix)-1:len(prefix)-1], kindProfile+1)})
		if err != nil {
			return err
		}
		for ok := iter.First(); ok; ok = iter.Next() {
			value, err := iter.ValueAndErr()
			if err != nil {
				return errors.Join(err, iter.Close())
			}
			swept[string(iter.Key()[len(prefix):])] = string(value)
		}
		return iter.Close()
	})
	if unreadable == nil && !maps.Equal(swept, want) {
		wrong = fmt.Errorf("partition %d holds %q, not %q", p.number, swept, want)
	}
	return unreadable, wrong
}

// A closed folder is damaged at random: whatever comes, a start ends soon and in order, and each
// profile that is answered is right as of the checkpoint that is answered with it.
func TestOfADamagedFolderNoProfileIsAnsweredThatIsNotOfItsCheckpoint(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := newFolders(t)
	cases := 400
	if long() {
		cases = 10_000
	}
	outcomes := map[string]int{}
	for n := range cases {
		d := &spoiled{folders: f, t: t, rng: rand.New(rand.NewPCG(seed, uint64(n))), fs: clone(t, f.today)}
		pick(d, damages)(d)
		var became string
		err := soon(t, func() (err error) {
			became, err = d.opened()
			return err
		})
		if err != nil {
			t.Fatalf("case %d, %s: %v", n, strings.Join(d.what, ", "), err)
		}
		outcomes[became]++
	}
	t.Logf("%d cases: %v", cases, outcomes)
	for _, o := range []string{refused, setAside, older, whole} {
		if outcomes[o] == 0 {
			t.Errorf("no damaged folder was %s", o)
		}
	}
}
