// Package calendar says when something is due.
//
// An [Event] is a rule for points in time, "mon..fri 21:30" or "daily", and
// [Event.Next] is all that a scheduler asks of it. A [Window] is a part of the
// day, "mon..fri 8-17:30", as rules for traffic use it. Both are written as PBS
// writes them (PBS protocol notes §8.1, §8.2). The package is pure: it looks at
// no clock, and the zone is that of the times it is given.
package calendar
