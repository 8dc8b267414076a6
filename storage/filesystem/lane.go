package filesystem

import (
	"math"
	"sync"
	"sync/atomic"
)

// A lane hashes a stream's chunks, in their order, while the next are read and written.
// Two chunks are enough for that on a machine that has nothing else to do; on a busy one
// whoever reads and whoever hashes wait for each other. A wide lane lets either be a
// while ahead, and wakes them less often; as long as the process has chunks to spare,
// who reads may be far ahead.
type lane struct {
	session *session
	buffers *sync.Pool
	free    chan []byte  // may be read into
	full    chan []byte  // are to be hashed
	spares  atomic.Int32 // how many of the process's spare chunks are among them
	hashing sync.WaitGroup
}

// Sizes of lanes, in bytes. Memory is what they cost: the process has so many wide lanes
// at a time, and so many chunks to spare for them. Whoever comes later gets a narrow one,
// and looks again whenever so much has come by it.
const (
	narrowChunk, narrowDepth = 256 << 10, 2
	wideChunk, wideDepth     = 1 << 20, 3
	wideLanes                = 8
	spareChunks              = 16
	narrowMost               = 32 << 20
)

var (
	narrowChunks = chunkPool(narrowChunk)
	wideChunks   = chunkPool(wideChunk)
	wide         = make(chan struct{}, wideLanes)   // one for each wide lane
	spare        = make(chan struct{}, spareChunks) // one for each spare chunk in a lane
)

func chunkPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any { return new(make([]byte, size)) }}
}

// openLane begins a lane, a wide one if there may be another. The caller closes it.
func openLane(s *session) *lane {
	select {
	case wide <- struct{}{}:
		return newLane(s, wideChunks, wideDepth)
	default:
		return openNarrowLane(s)
	}
}

// openNarrowLane begins a narrow lane. The caller closes it.
func openNarrowLane(s *session) *lane { return newLane(s, narrowChunks, narrowDepth) }

// most is after how many bytes another lane is to be looked for.
func (l *lane) most() int {
	if l.buffers == wideChunks {
		return math.MaxInt
	}
	return narrowMost
}

func newLane(s *session, buffers *sync.Pool, depth int) *lane {
	most := depth
	if buffers == wideChunks {
		most += spareChunks
	}
	l := &lane{session: s, buffers: buffers, free: make(chan []byte, most), full: make(chan []byte, most)}
	for range depth {
		l.free <- l.buffer()
	}
	l.hashing.Go(l.hash)
	return l
}

func (l *lane) buffer() []byte {
	buf, _ := l.buffers.Get().(*[]byte)
	return *buf
}

// take returns a buffer to read into: if all of a wide lane's wait to be hashed, a spare
// one, if there is one.
func (l *lane) take() []byte {
	if len(l.free) == 0 && l.widen() {
		return l.buffer()
	}
	return <-l.free
}

// widen adds a spare buffer to the lane, if it may have one and there is one.
func (l *lane) widen() bool {
	if l.buffers != wideChunks {
		return false
	}
	select {
	case spare <- struct{}{}:
		l.spares.Add(1)
		return true
	default:
		return false
	}
}

// release makes a buffer free: for the lane, or if that has enough for the process.
func (l *lane) release(buf []byte) {
	buf = buf[:cap(buf)]
	if l.spares.Load() == 0 || len(l.free) < wideDepth {
		l.free <- buf
		return
	}
	l.buffers.Put(&buf)
	l.spares.Add(-1)
	<-spare
}

func (l *lane) hash() {
	for chunk := range l.full {
		_, _ = l.session.hash.Write(chunk) // a hash doesn't fail
		l.session.hashing.Done()
		l.release(chunk)
	}
}

// add has a chunk hashed that is in a buffer of the lane, which is free after that. The
// session's lock is held.
func (l *lane) add(chunk []byte) {
	l.session.hashing.Add(1)
	l.full <- chunk // there's room for all buffers
}

// close ends the lane once all is hashed.
func (l *lane) close() {
	close(l.full)
	l.hashing.Wait()
	for len(l.free) > 0 {
		buf := <-l.free
		l.buffers.Put(&buf)
	}
	for range l.spares.Load() {
		<-spare
	}
	if l.buffers == wideChunks {
		<-wide
	}
}
