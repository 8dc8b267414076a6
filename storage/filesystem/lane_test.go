package filesystem_test

import (
	"io"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// asked is content that tells how much of it is asked for at a time.
type asked struct {
	left int
	by   func(came, n int) // so much has come, and n bytes are asked for
	came int
}

func (a *asked) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
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
