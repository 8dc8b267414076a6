package filesystem_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"io"
	"testing"
	"testing/synctest"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// asked is content that tells how much of it is asked for at a time.
type asked struct {
	left int
	by   func(came, n int) // so much has come, and n bytes are asked for
	end  error             // how it ends, io.EOF unless it's said
	came int
}

func (a *asked) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, cmp.Or(a.end, io.EOF)
	}
	a.by(a.came, len(p))
	n := min(a.left, len(p))
	a.left -= n
	a.came += n
	return n, nil
}

// An upload that comes while eight others are read by large pieces is read by small ones,
// and by large ones once another one has ended.
func TestLanesThatAreFreeAgainAreTaken(t *testing.T) { //nolint:paralleltest // it takes what all tests share
	s := open(t, t.TempDir(), filesystem.Options{Unsynced: true})
	u := must(repository(t, s, "a").NewUpload(t.Context(), storage.UploadOptions{}))(t)
	release := filesystem.TakeWideLanes()
	t.Cleanup(func() {
		if release != nil {
			release()
		}
	})
	const total, releaseAt, turn = 80 << 20, 40 << 20, 32 << 20
	const small, large = 256 << 10, 1 << 20
	smallest := large
	content := &asked{left: total, by: func(came, n int) {
		if release != nil && n > small {
			t.Errorf("after %d bytes %d are asked for at a time, and nobody has ended", came, n)
		}
		if came >= releaseAt && release != nil {
			release()
			release = nil
		}
		if came > releaseAt+turn {
			smallest = min(smallest, n)
		}
	}}
	must(u.Append(t.Context(), 0, content))(t)
	if smallest != large {
		t.Errorf("%d bytes are asked for at a time, want %d", smallest, large)
	}
	check(t, u.Cancel(t.Context()))
}

// While nothing is hashed, who reads a stream may be so far ahead as the lane is wide and
// the process has chunks to spare. They are hashed in their order, and the spare ones go
// back once they aren't needed.
func TestLanesTakeWhatIsToSpare(t *testing.T) { //nolint:paralleltest // it takes what all tests share
	synctest.Test(t, func(t *testing.T) {
		const most = filesystem.WideDepth + filesystem.SpareChunks
		l := filesystem.OpenLane()
		added := 0
		go func() {
			for ; added <= most; added++ {
				l.Add(byte(added))
			}
		}()
		synctest.Wait()
		if added != most || filesystem.SparesTaken() != filesystem.SpareChunks {
			t.Fatalf("%d chunks were added with nothing hashed, %d of them spare; want %d, and %d",
				added, filesystem.SparesTaken(), most, filesystem.SpareChunks)
		}
		second := filesystem.OpenLane()
		for b := range byte(filesystem.WideDepth) {
			second.Add(b)
		}
		if filesystem.SparesTaken() != filesystem.SpareChunks {
			t.Errorf("%d chunks are spare, want %d", filesystem.SparesTaken(), filesystem.SpareChunks)
		}
		l.GoOn(most + 1)
		synctest.Wait()
		for range filesystem.SpareChunks - 1 {
			l.Take()
		}
		if n := filesystem.SparesTaken(); n != 1 {
			t.Errorf("with all hashed and %d chunks read since, %d are spare, want 1", filesystem.SpareChunks-1, n)
		}

		want := sha256.New()
		for b := range byte(most + 1) {
			want.Write(bytes.Repeat([]byte{b}, 1<<20))
		}
		if got := l.Close(); !bytes.Equal(got, want.Sum(nil)) {
			t.Error("the chunks weren't hashed in their order, or not all")
		}
		second.GoOn(filesystem.WideDepth)
		second.Close()
		if n := filesystem.SparesTaken(); n != 0 {
			t.Errorf("both lanes are closed, and %d chunks are spare", n)
		}
	})
}
