package tenant

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// user is a person. What is drawn once is here; what is drawn each day comes from mix of
// seed, index and day.
type user struct {
	index     int
	seed      uint64
	id        guid
	name, upn string
	upnOdd    string // the UPN in another case
	works     workplace
	devices   []device
	factor    float64 // of the tenant's median sign-ins
	failures  float64
	offset    int64 // of local time from UTC
	joins     int64 // first sign-in at the earliest
	hired     bool

	city        *city
	site        int // which office
	isp         int
	ispChange   int // the local day on which the provider changes
	homeEvery   int // days after which the address of the home changes; 0 never
	carrier     int
	attachments int // addresses of the phone a day

	day   int    // the next local day to plan, counted from the tenant's start
	slots []slot // the planned day, in order
	plan  []slot // what is left of it
}

type workplace uint8

const (
	office workplace = iota
	hybrid
	remote
	phoneOnly
)

type deviceKind uint8

const (
	pc deviceKind = iota
	phone
)

type device struct {
	kind      deviceKind
	id        guid
	name      string
	os        string
	browser   string
	agent     string
	managed   bool
	compliant bool

	diagnostic, table string // the detail, as either shape writes it
}

// slot is a planned sign-in.
type slot struct {
	at     int64
	device uint8
	app    uint8
}

func (u *user) next() int64 { return u.plan[0].at }

var (
	firstNames = strings.Fields("Ada Amir Anna Ben Carla Chen Clara David Dora Elif Emil Eva Farid Finn Greta Hana Hugo Ida Ivan Jana Jonas Kofi Lara Leon Lina Luis Maja Marek Mina Nadia Nils Olga Omar Paula Priya Rosa Sven Tara Tim Yuki")
	lastNames  = strings.Fields("Adler Bauer Becker Costa Diaz Dubois Eriksen Fischer Garcia Haas Hoffmann Ito Jansen Keller Khan Kowalski Lang Larsen Lopez Maier Meyer Moreau Novak Okafor Olsen Patel Petrov Rossi Sato Schmidt Silva Smit Tanaka Vogel Wagner Weber Winter Wolf Yilmaz Zimmer")
	domains    = []string{"corp.example.com", "corp.example.com", "corp.example.com", "sales.example.com", "lab.example.com"}
)

func newUser(t *Tenant, index int) *user {
	seed := mix(t.o.Seed, uint64(index))
	r := rand.New(rand.NewPCG(seed, 1))
	u := &user{index: index, seed: seed, day: -1}
	u.id = randomGUID(r)
	u.call(r)
	u.settle(r)
	u.equip(r)
	for i := range u.devices {
		u.devices[i].describe()
	}
	u.factor = logNormal(r, userSigma)
	u.failures = failures
	if r.Float64() < failingUsers {
		u.failures = min(0.8, failures*failingFactor)
	}
	if at := r.Float64(); at < 10*joinersPerWeek {
		u.hired = true
		u.joins = t.o.Start.UnixNano() + int64(at/joinersPerWeek*float64(7*day))
	}
	return u
}

// call gives the user a name and a UPN that nobody else has.
func (u *user) call(r *rand.Rand) {
	first := firstNames[u.index%len(firstNames)]
	last := lastNames[(u.index/len(firstNames)+u.index)%len(lastNames)]
	number := ""
	if round := u.index / (len(firstNames) * len(lastNames)); round > 0 {
		number = fmt.Sprint(round + 1)
	}
	u.name = first + " " + last
	u.upn = strings.ToLower(first+"."+last) + number + "@" + domains[r.IntN(len(domains))]
	u.upnOdd = first + "." + strings.ToUpper(last) + number + u.upn[strings.Index(u.upn, "@"):]
}

// settle says where the user lives and works.
func (u *user) settle(r *rand.Rand) {
	switch p := r.Float64(); { // shares of people: assumption
	case p < 0.30:
		u.works = office
	case p < 0.75:
		u.works = hybrid
	case p < 0.90:
		u.works = remote
	default:
		u.works = phoneOnly
	}
	u.site = r.IntN(len(sites))
	u.city = &cities[sites[u.site].city]
	u.offset = u.city.offset
	u.isp, u.carrier = r.IntN(isps), r.IntN(carriers)
	u.ispChange = int(r.ExpFloat64() / (newNetworkDays * ispShare))
	switch p := r.Float64(); {
	case p < homeStable:
	case p < homeStable+homeTenDays:
		u.homeEvery = 10
	default:
		u.homeEvery = 1
	}
	if r.Float64() < movingPhones {
		u.attachments = 11 + r.IntN(4)
	} else {
		u.attachments = 1 + r.IntN(2*addressesPerDay-4)
	}
}

// equip hands out a PC and a phone.
func (u *user) equip(r *rand.Rand) {
	short := strings.ToUpper(u.upn[:3])
	if u.works != phoneOnly {
		d := device{kind: pc, id: randomGUID(r), name: fmt.Sprintf("LT-%s-%05d", short, u.index), managed: r.Float64() < managedShare}
		d.compliant = d.managed
		if r.IntN(5) == 0 {
			d.os, d.browser = "MacOs", "Safari 18.6"
			d.agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15"
		} else {
			d.os, d.browser = "Windows11", "Edge 142.0.0"
			d.agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0"
		}
		u.devices = append(u.devices, d)
	}
	if u.works == phoneOnly || r.Float64() < phoneOwners {
		d := device{kind: phone, id: randomGUID(r), name: fmt.Sprintf("PH-%s-%05d", short, u.index), managed: r.IntN(2) == 0}
		d.compliant = d.managed
		if r.IntN(2) == 0 {
			d.os, d.browser = "Ios 18.6", "Mobile Safari"
			d.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
		} else {
			d.os, d.browser = "Android 15", "Chrome Mobile 142"
			d.agent = "Dalvik/2.1.0 (Linux; U; Android 15; Pixel 9 Build/BP1A.250505.005)"
		}
		u.devices = append(u.devices, d)
	}
}

// dayStart is the user's midnight of a day counted from the tenant's start.
func (t *Tenant) dayStart(u *user, n int) int64 {
	start := t.o.Start.UnixNano()
	return start - (start%day+day)%day + int64(n)*day - u.offset
}

// localDay is the day, counted from the tenant's start, and the hour of it (with fraction)
// that it is for the user.
func (t *Tenant) localDay(u *user, at int64) (n int, hours float64) {
	since := at - t.dayStart(u, 0)
	n = int(since / day)
	if since < 0 && since%day != 0 {
		n--
	}
	return n, float64(since-int64(n)*day) / float64(hour)
}

// weekday reports whether the user's day is a working day.
func (t *Tenant) weekday(u *user, n int) bool {
	switch time.Unix(0, t.dayStart(u, n)+12*hour).UTC().Weekday() {
	case time.Saturday, time.Sunday:
		return false
	}
	return true
}

// deviceAt draws what the user has in hand.
func (u *user) deviceAt(t *Tenant, at int64) uint8 {
	if len(u.devices) == 1 {
		return 0
	}
	n, hours := t.localDay(u, at)
	if t.weekday(u, n) && hours > 8 && hours < 18 && t.rng.IntN(3) > 0 {
		return 0
	}
	return 1
}

// planDay makes the sign-ins of the user's next day: each client asks for a token every
// 60 to 90 minutes while its device is in use, and each managed device checks in.
func (t *Tenant) planDay(u *user) {
	n := u.day
	u.day++
	u.slots, u.plan = u.slots[:0], nil
	midnight := t.dayStart(u, n)
	if midnight+day <= u.joins {
		return
	}
	r := rand.New(rand.NewPCG(u.seed, uint64(n)+1<<32))
	count := t.o.PerUserDay * u.factor * logNormal(r, daySigma)
	if !t.weekday(u, n) {
		count *= weekend
	}
	for i := range u.devices {
		d := &u.devices[i]
		from, to, share := midnight+8*hour+r.Int64N(90*minute), midnight+17*hour+r.Int64N(2*hour), 1.0
		if d.kind == phone {
			from, to = midnight+6*hour+r.Int64N(90*minute), midnight+22*hour+r.Int64N(90*minute)
		}
		if len(u.devices) == 2 {
			share = []float64{pc: 0.6, phone: 0.4}[d.kind] // assumption
		}
		t.planDevice(u, uint8(i), r, midnight, from, to, int(count*share+r.Float64()))
	}
	slices.SortFunc(u.slots, func(a, b slot) int { return cmp.Compare(a.at, b.at) })
	u.plan = u.slots
	for len(u.plan) > 0 && u.plan[0].at < u.joins {
		u.plan = u.plan[1:]
	}
	if r.Float64() < t.o.Thefts/1000 {
		start := midnight + r.Int64N(day)
		if start > t.last && start < t.end {
			t.steal(t.drawTheft(r, u, start))
		}
	}
}

func (t *Tenant) planDevice(u *user, device uint8, r *rand.Rand, midnight, from, to int64, count int) {
	kind := u.devices[device].kind
	for count > 0 {
		app := pickApp(r, kind)
		at := from + r.Int64N(75*minute)
		longLived := apps[app].cae && r.Float64() < caeShare
		if longLived || kind == phone && r.Float64() < nightShare {
			at = from + r.Int64N(to-from)
		}
		for ; count > 0 && at < to; at += 60*minute + r.Int64N(30*minute) {
			moment := at
			if kind == phone && r.Float64() < nightShare {
				moment = midnight + r.Int64N(day)
			}
			u.slots = append(u.slots, slot{moment / 100 * 100, device, app})
			count--
			if longLived {
				break
			}
		}
	}
	if u.devices[device].managed {
		phase := int64(u.devices[device].id[0]) * intuneEvery * hour / 256
		for at := midnight + phase; at < midnight+day; at += intuneEvery * hour {
			u.slots = append(u.slots, slot{(at + r.Int64N(5*minute)) / 100 * 100, device, intuneCheckin})
		}
	}
}
