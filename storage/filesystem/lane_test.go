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

// asked is content, zeros, that tells how much of it is asked for at a time.
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
	clear(p[:n])
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
// the process has chunks to spare, and who comes after it only as far as the lane is wide.
// They are hashed in their order, and the spare ones go back as soon as they have been.
func TestLanesTakeWhatIsToSpare(t *testing.T) { //nolint:paralleltest // it takes what all tests share
	synctest.Test(t, func(t *testing.T) {
		const most = filesystem.WideDepth + filesystem.SpareChunks
		first, second := filesystem.OpenLane(), filesystem.OpenLane()
		fill := func(l *filesystem.Lane) (added *int) {
			added = new(int)
			go func() {
				for ; *added <= most; *added++ {
					l.Add(byte(*added))
				}
			}()
			synctest.Wait()
			return added
		}
		one, two := fill(first), fill(second)
		if *one != most || *two != filesystem.WideDepth {
			t.Errorf("with nothing hashed %d chunks were added, and by a second stream %d; want %d, and %d",
				*one, *two, most, filesystem.WideDepth)
		}
		first.GoOn(most + 1)
		synctest.Wait()
		second.GoOn(1)
		synctest.Wait()
		if *one != most+1 || *two != most+1 {
			t.Errorf("with those of the first hashed, and one of the second, %d and %d chunks were added; want %d of each",
				*one, *two, most+1)
		}
		second.GoOn(most)
		synctest.Wait()
		if n := filesystem.SparesTaken(); n != 0 {
			t.Errorf("all is hashed, and %d chunks are still spare ones", n)
		}

		want := sha256.New()
		for b := range byte(most + 1) {
			want.Write(bytes.Repeat([]byte{b}, 1<<20))
		}
		if !bytes.Equal(first.Close(), want.Sum(nil)) || !bytes.Equal(second.Close(), want.Sum(nil)) {
			t.Error("the chunks weren't hashed in their order, or not all")
		}
	})
}

// A stream that ends with a buffer in its hands, and then all is hashed, has a spare one
// left, which goes back when the lane is closed.
func TestClosedLanesHaveNoSpareChunks(t *testing.T) { //nolint:paralleltest // it takes what all tests share
	synctest.Test(t, func(t *testing.T) {
		l := filesystem.OpenLane()
		for b := range byte(filesystem.WideDepth) {
			l.Add(b)
		}
		putBack := l.Take()
		l.GoOn(filesystem.WideDepth)
		synctest.Wait()
		putBack()
		before := filesystem.SparesTaken()
		l.Close()
		if after := filesystem.SparesTaken(); before != 1 || after != 0 {
			t.Errorf("%d chunks were spare ones, and %d still are; want 1, and 0", before, after)
		}
	})
}
