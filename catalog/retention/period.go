package retention

import "time"

// A moment is the time of a backup as the clock on the wall showed it.
type moment struct{ time.Time }

// A period is what moments have in common for a rule. Periods go by the wall
// clock: where it is put back an hour, the hour that comes twice is one period,
// as it is for PBS. Periods of different rules are never compared.
type period [4]int64

func second(m moment) period { return period{m.Unix()} }

func hour(m moment) period {
	return period{int64(m.Year()), int64(m.Month()), int64(m.Day()), int64(m.Hour())}
}

func day(m moment) period {
	return period{int64(m.Year()), int64(m.Month()), int64(m.Day())}
}

// week is that of ISO 8601, with the year that most of the week lies in:
// 2027-01-01 is in the last week of 2026.
func week(m moment) period {
	year, week := m.ISOWeek()
	return period{int64(year), int64(week)}
}

func month(m moment) period { return period{int64(m.Year()), int64(m.Month())} }

func year(m moment) period { return period{int64(m.Year())} }
