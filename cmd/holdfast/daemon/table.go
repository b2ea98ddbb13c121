package daemon

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// table prints a list of objects, a line each.
func table(w io.Writer, list []map[string]any, show []string) {
	if len(list) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, strings.Join(show, "\t"))
	for _, item := range list {
		cells := make([]string, len(show))
		for i, name := range show {
			cells[i] = cell(name, item[name])
		}
		fmt.Fprintln(tab, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	tab.Flush()
}

// lines prints an object, a line for each member.
func lines(w io.Writer, object map[string]any, show []string) {
	if len(show) == 0 {
		show = slices.Sorted(maps.Keys(object))
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range show {
		if value, ok := object[name]; ok {
			fmt.Fprintf(tab, "%s\t%s\n", name, cell(name, value))
		}
	}
	tab.Flush()
}

// times are members that hold Unix seconds.
var times = []string{"starttime", "endtime", "next-run", "last-run-endtime", "expire", "expires", "joined", "made"}

// cell prints a value for people.
func cell(name string, value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case float64:
		switch {
		case slices.Contains(times, name) && v == 0:
			return "never"
		case slices.Contains(times, name):
			return time.Unix(int64(v), 0).Format("2006-01-02 15:04:05")
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		all := make([]string, len(v))
		for i, one := range v {
			all[i] = cell(name, one)
		}
		return strings.Join(all, ",")
	case map[string]any:
		all := make([]string, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, key+"="+cell(key, v[key]))
		}
		return strings.Join(all, ",")
	}
	return fmt.Sprint(value)
}
