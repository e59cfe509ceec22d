package detector

// history is a History that forgets nothing: the plain one that tests judge by.
type history struct {
	ips, asns map[string]map[int32]bool
	alerts    map[[16]byte]bool
	newest    int32
	reach     int32 // hours behind the newest one for which it is complete; 0: for ever
	evicted   int
}

func newHistory() *history {
	return &history{
		ips: map[string]map[int32]bool{}, asns: map[string]map[int32]bool{}, alerts: map[[16]byte]bool{},
	}
}

func (h *history) KnownIP(ip string, from, to int32) bool   { return within(h.ips[ip], from, to) }
func (h *history) KnownASN(asn string, from, to int32) bool { return within(h.asns[asn], from, to) }

func (h *history) See(ip, asn string, hour int32) {
	note(h.ips, ip, hour)
	note(h.asns, asn, hour)
	if len(h.ips) == 1 && len(h.ips[ip]) == 1 || hour > h.newest {
		h.newest = hour
	}
}

func (h *history) Late(hour int32) bool {
	return h.reach > 0 && len(h.ips) > 0 && hour < h.newest-h.reach
}
func (h *history) Alerted(id [16]byte) bool         { return h.alerts[id] }
func (h *history) Remember(id [16]byte, hour int32) { h.alerts[id] = true }
func (h *history) Evicted(hour int32) int           { return h.evicted }
func (h *history) Counts(from, to int32) (ips, asns int, first, last int32) {
	seen := map[int32]bool{}
	for _, hours := range h.ips {
		if within(hours, from, to) {
			ips++
		}
		for hour := range hours {
			seen[hour] = true
		}
	}
	for _, hours := range h.asns {
		if within(hours, from, to) {
			asns++
		}
	}
	for hour := from; hour <= to; hour++ {
		if seen[hour] {
			if last == 0 {
				first = hour
			}
			last = hour
		}
	}
	return ips, asns, first, last
}

func within(hours map[int32]bool, from, to int32) bool {
	for hour := range hours {
		if from <= hour && hour <= to {
			return true
		}
	}
	return false
}

func note(networks map[string]map[int32]bool, network string, hour int32) {
	if networks[network] == nil {
		networks[network] = map[int32]bool{}
	}
	networks[network][hour] = true
}
