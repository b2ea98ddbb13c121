package prices

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const (
	day     = 24 * time.Hour
	blocks  = 4000 // of the image
	perPack = 53   // chunks of 1.2 MiB
	size    = 1_258_291
	grace   = 7 // days that a buried pack stays
)

// A version is what a block held from one night to another.
type version struct {
	born, died int // days; died is that of the night that replaced it
	pack       *object
}

// An object is a pack in the bucket.
type object struct {
	created int
	all     int // chunks
	chunks  []*version
}

// A bill is a simulation of days: an image of which a part changes each night,
// most of it in the same fifth, pruned to 7 daily, 4 weekly and 6 monthly
// snapshots. After some days what is still needed goes to the bucket.
type bill struct {
	p       List
	after   int // days on the disk
	minimum int // days
	rng     *rand.Rand

	image  []*version
	live   []*version
	packs  []*object
	buried []end

	billed, needed float64 // chunk days
}

// An end is when a pack that was buried stops to be billed.
type end struct{ day, chunks int }

func (b *bill) run(days int, churn float64) float64 {
	b.image = make([]*version, blocks)
	for today := range days {
		b.night(today, churn)
		b.prune(today)
		b.offload(today)
		b.collect(today)
		b.count(today)
	}
	return b.billed / b.needed
}

func (b *bill) night(today int, churn float64) {
	write := func(at int) {
		if old := b.image[at]; old != nil {
			if old.born == today {
				return
			}
			old.died = today
		}
		b.image[at] = &version{born: today, died: 1 << 30}
		b.live = append(b.live, b.image[at])
	}
	if today == 0 {
		for at := range b.image {
			write(at)
		}
		return
	}
	for range int(churn * blocks) {
		if b.rng.IntN(5) > 0 {
			write(b.rng.IntN(blocks / 5))
		} else {
			write(blocks/5 + b.rng.IntN(blocks*4/5))
		}
	}
}

// kept are the days of which there is a snapshot.
func kept(today int) (days []int) {
	for i := range 7 {
		days = append(days, today-i)
	}
	for i := range 4 {
		days = append(days, (today/7-i)*7)
	}
	for i := range 6 {
		days = append(days, (today/30-i)*30)
	}
	return days
}

func (b *bill) prune(today int) {
	days := kept(today)
	b.live = slices.DeleteFunc(b.live, func(v *version) bool {
		return !slices.ContainsFunc(days, func(d int) bool { return d >= v.born && d < v.died })
	})
}

func (b *bill) offload(today int) {
	var due []*version
	for _, v := range b.live {
		if v.pack == nil && today-v.born >= b.after {
			due = append(due, v)
		}
	}
	b.pack(today, due)
}

func (b *bill) pack(today int, versions []*version) {
	for part := range slices.Chunk(versions, perPack) {
		p := &object{created: today, all: len(part), chunks: slices.Clone(part)}
		for _, v := range part {
			v.pack = p
		}
		b.packs = append(b.packs, p)
	}
}

// collect buries what is dead, and rewrites what the prices say.
func (b *bill) collect(today int) {
	alive := map[*object][]*version{}
	for _, v := range b.live {
		if v.pack != nil {
			alive[v.pack] = append(alive[v.pack], v)
		}
	}
	var again []*version
	b.packs = slices.DeleteFunc(b.packs, func(p *object) bool {
		live := alive[p]
		if len(live) > 0 && !b.p.Compact(Pack{Age: time.Duration(today-p.created) * day, Live: int64(len(live)) * size, Dead: int64(p.all-len(live)) * size}) {
			return false
		}
		again = append(again, live...)
		b.buried = append(b.buried, end{max(today+grace, p.created+b.minimum), p.all})
		return true
	})
	b.pack(today, again)
}

func (b *bill) count(today int) {
	for _, p := range b.packs {
		b.billed += float64(p.all)
	}
	b.buried = slices.DeleteFunc(b.buried, func(e end) bool { return e.day <= today })
	for _, e := range b.buried {
		b.billed += float64(e.chunks)
	}
	b.needed += float64(len(b.live))
}

func simulate(after, days int, churn float64) float64 {
	b := &bill{p: List{Storage: 7.99, Minimum: 90 * day}, after: after, minimum: 90, rng: rand.New(rand.NewPCG(1, 2))}
	return b.run(days, churn)
}

// With a minimum of 90 days, 400 days of 2 % churn cost at most a tenth more
// than the bytes that are needed, if chunks go to the bucket after 28 days; at
// once, they would cost much more, which is what the default is there for.
func TestTheBillOfFourHundredDays(t *testing.T) {
	late, soon := simulate(28, 400, 0.02), simulate(0, 400, 0.02)
	t.Logf("billed ÷ live: %.2f after 28 days, %.2f at once", late, soon)
	if late > 1.10 {
		t.Errorf("billed ÷ live is %.2f, want at most 1.10", late)
	}
	if soon < late+0.1 {
		t.Errorf("at once it is %.2f, after 28 days %.2f: waiting saves nothing", soon, late)
	}
}
