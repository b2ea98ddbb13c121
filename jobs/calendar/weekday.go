package calendar

import (
	"fmt"
	"strings"
	"time"
)

// weekdays is a set of days of the week; bit 0 is Monday, as in the ISO week.
type weekdays uint8

const everyDay weekdays = 1<<7 - 1

var (
	shortDays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	longDays  = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
)

func (w weekdays) has(d time.Weekday) bool { return w>>((d+6)%7)&1 != 0 }

// next returns the days after those.
func (w weekdays) next() weekdays { return (w<<1 | w>>6) & everyDay }

// String lists the days, those in a row as a range: "mon..fri,sun".
func (w weekdays) String() string {
	var parts []string
	for i := 0; i < 7; i++ {
		if w>>i&1 == 0 {
			continue
		}
		end := i
		for end < 6 && w>>(end+1)&1 != 0 {
			end++
		}
		switch end - i {
		case 0:
			parts = append(parts, shortDays[i])
		case 1:
			parts = append(parts, shortDays[i], shortDays[end])
		default:
			parts = append(parts, shortDays[i]+".."+shortDays[end])
		}
		i = end
	}
	return strings.Join(parts, ",")
}

// cutWeekdays reads the days that text begins with, if it does with a letter,
// and returns what follows them and blanks. Ranges may pass the end of the
// week ("fri..mon").
func cutWeekdays(text string) (days weekdays, rest string, err error) {
	if text == "" || !isLetter(text[0]) {
		return everyDay, text, nil
	}
	for {
		var from, to int
		if from, text, err = cutDay(text); err != nil {
			return 0, "", err
		}
		to = from
		if after, ok := strings.CutPrefix(text, ".."); ok {
			if to, text, err = cutDay(after); err != nil {
				return 0, "", err
			}
		}
		for d := from; ; d = (d + 1) % 7 {
			days |= 1 << d
			if d == to {
				break
			}
		}
		after, more := strings.CutPrefix(text, ",")
		if !more {
			return days, trimBlanks(text), nil
		}
		text = after
	}
}

// cutDay reads one day's name, in any case, and returns its number from
// Monday.
func cutDay(text string) (day int, rest string, err error) {
	n := 0
	for n < len(text) && isLetter(text[n]) {
		n++
	}
	name := strings.ToLower(text[:n])
	for i := range 7 {
		if name == shortDays[i] || name == longDays[i] {
			return i, text[n:], nil
		}
	}
	if name == "" {
		return 0, "", fmt.Errorf("a day of the week is missing before %.20q", text)
	}
	return 0, "", fmt.Errorf("%.20q is no day of the week, want mon to sun", name)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func trimBlanks(s string) string { return strings.TrimLeft(s, " \t") }
