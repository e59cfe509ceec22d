package detector

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/yl2chen/cidranger"
)

// Allowlist is a set of IPv4 and IPv6 ranges from which sign-ins do not alert. It is
// immutable and safe for use by many goroutines. A nil or empty one holds nothing.
type Allowlist struct {
	ranges cidranger.Ranger
}

// Source is one text of allowlist entries. Its name, a file's usually, goes into errors.
type Source struct {
	Name string
	Text io.Reader
}

// ParseAllowlist merges the sources. Each is either one CIDR or address a line, with blank
// lines and `#` comments, also behind an entry; or CSV with the column SearchKey, as a
// Sentinel watchlist has. A byte-order mark and CRLF are accepted. An IPv4-mapped address
// or range means the IPv4 one. Bits beyond the length of a CIDR are ignored, as KQL does.
//
// The first wrong line is an error that names source, line and what would be right.
func ParseAllowlist(sources ...Source) (*Allowlist, error) {
	ranges := cidranger.NewPCTrieRanger()
	for _, source := range sources {
		text, err := io.ReadAll(source.Text)
		if err != nil {
			return nil, fmt.Errorf("reading allowlist %s: %w", source.Name, err)
		}
		insert := func(line int, entry string) error {
			network, err := parseRange(entry)
			if err == nil {
				err = ranges.Insert(cidranger.NewBasicRangerEntry(network))
			}
			if err != nil {
				return fmt.Errorf("allowlist %s:%d: %w", source.Name, line, err)
			}
			return nil
		}
		if err := parseEntries(source.Name, text, insert); err != nil {
			return nil, err
		}
	}
	return &Allowlist{ranges: ranges}, nil
}

// Len returns how many distinct ranges there are.
func (a *Allowlist) Len() int {
	if a == nil || a.ranges == nil {
		return 0
	}
	return a.ranges.Len()
}

// Contains reports whether the address lies in a range. The zero Addr lies in none.
func (a *Allowlist) Contains(addr netip.Addr) bool {
	if a.Len() == 0 || !addr.IsValid() {
		return false
	}
	inside, err := a.ranges.Contains(net.IP(addr.AsSlice())) // which unmaps it
	return err == nil && inside                              // an error says that it is no address, which IsValid has ruled out
}

// parseEntries calls insert for each entry of the text with its line, from 1.
func parseEntries(name string, text []byte, insert func(line int, entry string) error) error {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return fmt.Errorf("allowlist %s:1: the file is UTF-16: save it as UTF-8", name)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if isWatchlist(text) {
		return parseWatchlist(name, text, insert)
	}
	line := 0
	for raw := range strings.Lines(string(text)) {
		line++
		entry, _, _ := strings.Cut(raw, "#")
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		if err := insert(line, entry); err != nil {
			return err
		}
	}
	return nil
}

const searchKey = "SearchKey"

func isSearchKey(column string) bool {
	return strings.EqualFold(strings.TrimSpace(column), searchKey)
}

// isWatchlist reports whether the first line that says something is a CSV header with the
// column SearchKey.
func isWatchlist(text []byte) bool {
	header, err := watchlistReader(text).Read()
	return err == nil && slices.ContainsFunc(header, isSearchKey)
}

func watchlistReader(text []byte) *csv.Reader {
	r := csv.NewReader(bytes.NewReader(text))
	r.Comment = '#'
	r.FieldsPerRecord = -1 // checked below, with a better message
	return r
}

func parseWatchlist(name string, text []byte, insert func(line int, entry string) error) error {
	r := watchlistReader(text)
	header, err := r.Read()
	column := slices.IndexFunc(header, isSearchKey)
	for err == nil {
		var row []string
		if row, err = r.Read(); err != nil || !slices.ContainsFunc(row, isFilled) {
			continue
		}
		line, _ := r.FieldPos(0)
		if column >= len(row) || !isFilled(row[column]) {
			return fmt.Errorf("allowlist %s:%d: the column %s is empty: %s", name, line, searchKey, rangeRemedy)
		}
		line, _ = r.FieldPos(column)
		if err := insert(line, strings.TrimSpace(row[column])); err != nil {
			return err
		}
	}
	var malformed *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &malformed):
		return fmt.Errorf("allowlist %s:%d: reading CSV: %w: write a quote within a quoted field twice", name, malformed.Line, malformed.Err)
	default:
		return fmt.Errorf("reading allowlist %s: %w", name, err)
	}
}

func isFilled(field string) bool { return strings.TrimSpace(field) != "" }

const rangeRemedy = "write a CIDR such as 192.0.2.0/24 or an address such as 192.0.2.7"

// parseRange returns the masked range that the entry, a CIDR or an address, stands for.
func parseRange(entry string) (net.IPNet, error) {
	prefix, err := netip.ParsePrefix(entry)
	if err != nil {
		addr, err := netip.ParseAddr(entry)
		if err != nil || addr.Zone() != "" {
			return net.IPNet{}, fmt.Errorf("%.80q is no network: %s", entry, rangeRemedy)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	addr, bits := prefix.Addr(), prefix.Bits()
	if addr.Is4In6() { // cidranger would file it under IPv6, and never find it
		if bits < 96 {
			return net.IPNet{}, fmt.Errorf("%.80q reaches beyond the IPv4-mapped addresses: write the IPv4 range, such as 192.0.2.0/24", entry)
		}
		addr, bits = addr.Unmap(), bits-96
	}
	masked := netip.PrefixFrom(addr, bits).Masked().Addr()
	return net.IPNet{IP: masked.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}, nil
}
