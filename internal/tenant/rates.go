package tenant

import (
	"math"
	"math/rand/v2"
)

// The rates. "row N" is a row of the project's table of published figures, "measured" is from real
// records, "assumption" is nobody's figure.
const (
	signInsPerUserDay   = 80   // median, log-normal: row 30
	userSigma           = 0.80 // how users differ; with daySigma p99 is ten times the median: rows 30, 33
	daySigma            = 0.58 // how the days of a user differ
	weekend             = 0.25 // of a working day's sign-ins: assumption
	failures            = 0.08 // share: assumption
	failingUsers        = 0.02 // have failingFactor times the failures: row 33, shares assumption
	failingFactor       = 10
	repeats             = 0.0297               // delivered again: row 35, measured
	lagMedian           = 97 * float64(1e9)    // created to envelope: measured
	lagSigma            = 0.75                 // assumption, so that the range below is met
	minLag, maxLag      = 28 * 1e9, 1077 * 1e9 // measured over some 700 records
	previouslySatisfied = 1.0 / 33             // have authentication details at all: measured

	phoneOwners  = 0.8  // of those who have a PC: assumption
	graphShare   = 0.15 // of token exchanges: assumption
	caeShare     = 0.4  // of clients of Exchange, Teams, SharePoint, Graph, whose tokens last a day: row 34, share assumption
	intuneEvery  = 8    // hours, for a managed device: row 34
	nightShare   = 0.1  // of a phone's sign-ins are made in the background at any hour: assumption
	managedShare = 0.85 // of PCs: assumption

	homeStable, homeTenDays = 0.7, 0.2 // of homes never change address, or about every ten days; the rest daily: rows 16-19
	addressesPerDay         = 4        // of a phone, mean: row 6
	movingPhones            = 0.2      // have more than ten: row 6
	v6Share                 = 0.2      // of sign-ins from homes and cellular networks: assumption, rows 18-22
	withoutASN              = 0.01     // of addresses: row 54, share assumption
	cloudEgress             = 0.02     // of sign-ins of a PC: rows 50, 58, share assumption

	newNetworkDays = 0.01 // user-days with a benign new network: row 4; of it:
	placeShare     = 0.45 // assumption
	travelShare    = 0.20 // assumption
	vpnShare       = 0.15 // assumption
	ispShare       = 0.10 // assumption
	tripDays       = 3    // assumption

	joinersPerWeek = 0.005 // of users, for the first ten weeks: assumption

	theftsPer1000UserDays = 2    // enriched, for recall: assumption
	theftHosting          = 0.50 // the thief's network: row 41, split assumption
	theftVPN              = 0.20
	theftResidential      = 0.25 // the rest is in an ASN that the victim uses
	theftV6               = 0.05 // assumption
	theftAfterFailures    = 0.10 // assumption
	theftShort            = 0.60 // one to ten exchanges within a day: rows 42, 44
	theftPolling          = 0.25 // every half hour for one to seven days: row 44; the rest at the tokens' lifetime for up to 30
)

// logNormal draws from a log-normal distribution of median 1.
func logNormal(r *rand.Rand, sigma float64) float64 { return math.Exp(sigma * r.NormFloat64()) }

// mix hashes numbers to one that looks random (splitmix64). What a person does on a day is
// drawn from it, so that it depends on nothing but the seed, the person and the day.
func mix(values ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, v := range values {
		h += v + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// chance turns a hash into a number of [0, 1).
func chance(h uint64) float64 { return float64(h>>11) / (1 << 53) }
