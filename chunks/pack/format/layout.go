package format

// DeadRuns returns the spans of whole blocks, at least min bytes long, that
// hold nothing but dead entries. rows are in order of place.
func DeadRuns(rows []Row, min int64, dead func(ordinal uint32) bool) []Segment {
	var runs []Segment
	for i := 0; i < len(rows); {
		if !dead(rows[i].Ordinal) {
			i++
			continue
		}
		from := rows[i].Off
		for i < len(rows) && dead(rows[i].Ordinal) {
			i++
		}
		to := rows[i-1].End()
		if i < len(rows) {
			to = rows[i].Off // with the padding in front of the next
		}
		start, end := AlignUp(from, Align), to&^(Align-1)
		if end-start >= min {
			runs = append(runs, Segment{Src: start, N: end - start})
		}
	}
	return runs
}

// Stretch returns the first of rows, which lie in the order of their offsets:
// as many as end within n bytes, but at least one. There must be some.
func Stretch(rows []Row, n int64) []Row {
	i := 1
	for i < len(rows) && rows[i].End()-rows[0].Off <= n {
		i++
	}
	return rows[:i]
}

// A Span is a run of blocks with live entries: where it lies, where it goes,
// and where it was in the pack that the entries were written to.
type Span struct{ From, To, Origin, N int64 }

// LiveSpans lays the blocks of the live entries out without gaps. It fails if
// there are more runs than a header can list.
func LiveSpans(live []Row, h *Header) (spans []Span, ok bool) {
	for _, r := range live {
		from, end := r.Off&^(Align-1), AlignUp(r.End(), Align)
		_, origin, ok := h.Owner(r.Off)
		if !ok {
			return nil, false
		}
		origin -= r.Off - from
		if n := len(spans); n > 0 {
			last := &spans[n-1]
			if from <= last.From+last.N && origin-from == last.Origin-last.From {
				last.N = max(last.N, end-last.From)
				continue
			}
		}
		spans = append(spans, Span{From: from, Origin: origin, N: end - from})
	}
	at := int64(HeaderSize)
	for i := range spans {
		spans[i].To = at
		at += spans[i].N
	}
	return spans, len(spans) <= MaxSegments
}

// Extent is the room that an entry takes in a pack.
func Extent(stored uint32) int64 {
	return EntryStart(EntrySize+int64(stored), int(stored))
}
