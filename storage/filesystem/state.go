package filesystem

import (
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage/layout"
)

// state is what a repository's files meant when they were read. It doesn't
// change, but for the time it was last compared with them.
type state struct {
	index  *layout.Index // nil if the repository doesn't exist, or can't be read at all
	broken error         // why index.json can't be read; index is then the last good one, or nil
	stamp  stamp
	size   int           // of index.json, in bytes
	sum    digest.Digest // its sha256; empty if that isn't known

	checked atomic.Int64 // when the files were last seen to be these, in nanoseconds of the process
}

func (st *state) exists() bool { return st.index != nil || st.broken != nil }

// fresh reports whether the files were looked at less than d ago.
func (st *state) fresh(d time.Duration) bool {
	return sinceStart()-time.Duration(st.checked.Load()) < d
}

func (st *state) touch() { st.checked.Store(int64(sinceStart())) }

// sinceStart reads the monotonic clock: a wall clock that is set back would
// make what was read look fresh for ever.
func sinceStart() time.Duration { return time.Since(processStart) }

var processStart = time.Now()

// stamp tells one version of a repository's files from another. A change that
// leaves all of it as it was isn't noticed.
type stamp struct {
	index fileStamp
	log   fileStamp // only while another process writes; our own log we know
}

// fileStamp is the part of a stat that changes with a file's content or when
// the file is replaced. The zero value stands for no file.
type fileStamp struct {
	device, inode uint64
	size          int64
	mtime, ctime  int64 // nanoseconds
}

func stampOf(fi fs.FileInfo) fileStamp {
	s := fileStamp{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	s.device, s.inode, s.ctime = identity(fi)
	return s
}
