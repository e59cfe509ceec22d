package detector

import "time"

const secondsPerHour = 3600

// HourOf returns the hour that t belongs to: t rounded up to the whole UTC hour, as hours
// since the Unix epoch. An hour is named by its upper edge because the query's run at T
// judges (T-1h, T]: 10:00:00 belongs to the hour 10:00, an instant later to 11:00. It holds
// for every year that RFC 3339 can write.
func HourOf(t time.Time) int32 {
	seconds := t.Unix() // rounded down, before 1970 too
	hour := seconds / secondsPerHour
	if seconds%secondsPerHour < 0 {
		hour--
	}
	if seconds != hour*secondsPerHour || t.Nanosecond() != 0 {
		hour++
	}
	return int32(hour)
}

// HourTime returns the upper edge of the hour, in UTC.
func HourTime(hour int32) time.Time {
	return time.Unix(int64(hour)*secondsPerHour, 0).UTC()
}
