package state

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAColumnIsAListOfStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c column
		var list [][]byte
		genString := rapid.SliceOfN(rapid.Byte(), 0, 20)
		at := func(t *rapid.T) int {
			if len(list) == 0 {
				t.Skip("it is empty")
			}
			return rapid.IntRange(0, len(list)-1).Draw(t, "at")
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				i, s := rapid.IntRange(0, len(list)).Draw(t, "at"), genString.Draw(t, "string")
				c.insert(i, s)
				list = slices.Insert(list, i, bytes.Clone(s))
				clear(s)
			},
			"replace": func(t *rapid.T) {
				i, s := at(t), genString.Draw(t, "string")
				c.replace(i, s)
				list[i] = bytes.Clone(s)
				clear(s)
			},
			"remove": func(t *rapid.T) {
				i := at(t)
				c.remove(i)
				list = slices.Delete(list, i, i+1)
			},
			"": func(t *rapid.T) {
				if c.len() != len(list) {
					t.Fatalf("it has %d strings, not %d", c.len(), len(list))
				}
				for i, want := range list {
					if got := c.at(i); !bytes.Equal(got, want) {
						t.Fatalf("string %d is %x, not %x", i, got, want)
					}
				}
			},
		})
	})
}

func TestHoursShiftAndEndLikeSetsOfBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 9).Draw(t, "most")
		was := map[int]bool{}
		var hours []byte
		for _, k := range rapid.SliceOfN(rapid.IntRange(0, 8*most-1), 0, 9).Draw(t, "bits") {
			was[k] = true
			for len(hours) <= k/8 {
				hours = append(hours, 0)
			}
			hours[k/8] |= 1 << (k % 8)
		}
		by, keep := rapid.IntRange(1, 100).Draw(t, "by"), rapid.IntRange(-3, 80).Draw(t, "keep")
		shifted, kept := map[int]bool{}, map[int]bool{}
		if by <= 8*most {
			shifted[by-1] = true
		}
		for k := range was {
			if k+by < 8*most {
				shifted[k+by] = true
			}
			if k < keep {
				kept[k] = true
			}
		}
		for _, c := range []struct {
			name string
			got  []byte
			want map[int]bool
		}{
			{"shifted", shiftHours([]byte{7}, hours, by, most)[1:], shifted},
			{"kept", appendHours([]byte{0}, hours, keep)[1:], kept},
		} {
			if n := len(c.got); n > 0 && c.got[n-1] == 0 {
				t.Fatalf("%s: %x ends in zeros", c.name, c.got)
			}
			for k := range 200 {
				if has := k/8 < len(c.got) && c.got[k/8]&(1<<(k%8)) != 0; has != c.want[k] {
					t.Fatalf("%s: bit %d is %t in %x, of %x", c.name, k, has, c.got, hours)
				}
			}
		}
	})
}
