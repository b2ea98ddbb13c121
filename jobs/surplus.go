package jobs

import (
	"cmp"
	"slices"
	"time"
)

// Keep says which ended tasks are kept. What is surplus is dropped with its
// log. The zero value of a field means the default.
type Keep struct {
	Tasks int           // default 1,000, at most 10,000
	Bytes int64         // of all logs; default 1 GiB
	Age   time.Duration // since their end; default 366 days
}

// slack is how far, as a share of the limit, the number and the bytes may go
// over it before anything is dropped, so that the index is not written anew at
// the end of every task.
const slack = 10

// surplus splits tasks, oldest end first, into those that stay and those that
// go. First goes what is too old; then, while there are too many, the oldest
// of the type that has the most, so that a thousand reads of a puller do not
// push out last week's garbage collection; likewise for the bytes of logs.
func surplus(tasks []Info, keep Keep, now time.Time) (stay, drop []Info) {
	gone := make([]bool, len(tasks))
	for n, i := range tasks {
		gone[n] = now.Sub(i.End) > keep.Age
	}
	trim(tasks, gone, int64(keep.Tasks), func(Info) int64 { return 1 })
	trim(tasks, gone, keep.Bytes, func(i Info) int64 { return i.logBytes })
	stay = make([]Info, 0, len(tasks))
	for n, i := range tasks {
		if gone[n] {
			drop = append(drop, i)
		} else {
			stay = append(stay, i)
		}
	}
	return stay, drop
}

// trim marks tasks as gone until what is left weighs no more than limit, if it
// weighs more than limit and slack.
func trim(tasks []Info, gone []bool, limit int64, weight func(Info) int64) {
	total := int64(0)
	weights := map[string]int64{}
	queues := map[string][]int{} // of each type, oldest first
	for n, i := range tasks {
		if w := weight(i); !gone[n] && w > 0 {
			total += w
			weights[i.UPID.Type] += w
			queues[i.UPID.Type] = append(queues[i.UPID.Type], n)
		}
	}
	if total <= limit+limit/slack {
		return
	}
	for total > limit {
		heaviest := ""
		for typ, w := range weights {
			if best := weights[heaviest]; w > best || w == best && typ < heaviest {
				heaviest = typ
			}
		}
		n := queues[heaviest][0]
		queues[heaviest] = queues[heaviest][1:]
		w := weight(tasks[n])
		gone[n], total, weights[heaviest] = true, total-w, weights[heaviest]-w
	}
}

// byEnd sorts tasks by their end, oldest first.
func byEnd(tasks []Info) {
	slices.SortStableFunc(tasks, func(a, b Info) int {
		return cmp.Or(a.End.Compare(b.End), byStart(a, b))
	})
}

// byStart compares tasks by their start, then in the order of their process.
func byStart(a, b Info) int {
	return cmp.Or(cmp.Compare(a.UPID.Start, b.UPID.Start), cmp.Compare(a.UPID.TaskID, b.UPID.TaskID))
}
