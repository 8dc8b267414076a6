package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func appendChecks() map[string]check {
	return map[string]check{
		"it adds to the end of the session":                                 appendAdds,
		"an offset that isn't the end is a range error":                     appendWrongOffset,
		"nothing is read at a wrong offset":                                 appendReadsNothing,
		"a negative offset stands for the size the handle has seen":         appendNegative,
		"a negative offset is a range error if the session has moved":       appendNegativeMoved,
		"it adds nothing if there's nothing to read":                        appendEmpty,
		"an append begun later takes the session over":                      takeOver,
		"an append begun later at a wrong offset doesn't":                   noTakeOver,
		"an append that lost the session ends with a range error even idle": takenOverIdle,
		"of several that claim one offset one wins":                         oneWinner,
		"of several that claim an offset in the middle one wins":            oneWinnerInTheMiddle,
		"what was read before the reader failed stays":                      appendFails,
		"bytes come in pieces of any size":                                  appendPieces,
		"a session that has ended is BlobUploadUnknown":                     appendEnded,
	}
}

func wantRangeError(t testing.TB, err error) {
	t.Helper()
	wantStatus(t, err, oci.BlobUploadInvalid, http.StatusRequestedRangeNotSatisfiable)
}

// wantContent commits the session and compares.
func wantContent(t testing.TB, r repo, id, want string) {
	t.Helper()
	u := resume(r, id)
	if u.Size() != int64(len(want)) {
		t.Fatalf("the session holds %d bytes, want %d", u.Size(), len(want))
	}
	must(u.Commit(t.Context(), digest.FromString(want)))(t)
	r.wantBlob(digest.FromString(want), want)
}

func appendAdds(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	for i, part := range []string{"one", "two", "six"} {
		if got := must(u.Append(t.Context(), int64(3*i), strings.NewReader(part)))(t); got != int64(3*i+3) {
			t.Fatalf("the session holds %d bytes after %q", got, part)
		}
	}
	wantContent(t, r, u.ID(), "onetwosix")
}

func appendWrongOffset(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	_, err := u.Append(t.Context(), 1, strings.NewReader("z"))
	wantRangeError(t, err)
	must(u.Append(t.Context(), 0, strings.NewReader("abc")))(t)
	for _, offset := range []int64{0, 1, 2, 4, 1 << 40} {
		_, err := u.Append(t.Context(), offset, strings.NewReader("z"))
		wantRangeError(t, err)
		if u.Size() != 3 {
			t.Fatalf("Size is %d after an append at %d", u.Size(), offset)
		}
	}
	wantContent(t, r, u.ID(), "abc")
}

func appendReadsNothing(t testing.TB, s storage.Store) {
	u := newSession(repository(t, s, "a"))
	must(u.Append(t.Context(), 0, strings.NewReader("abc")))(t)
	in := strings.NewReader("defg")
	_, err := u.Append(t.Context(), 2, in)
	wantRangeError(t, err)
	if in.Len() != 4 {
		t.Fatalf("%d of 4 bytes are left", in.Len())
	}
	_, err = u.Append(t.Context(), 2, strings.NewReader("")) // not even to find that it's empty
	wantRangeError(t, err)
}

func appendNegative(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), -1, strings.NewReader("ab")))(t)
	must(u.Append(t.Context(), -1, strings.NewReader("cd")))(t)
	must(resume(r, u.ID()).Append(t.Context(), -1, strings.NewReader("ef")))(t)
	wantContent(t, r, u.ID(), "abcdef")
}

func appendNegativeMoved(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	v := resume(r, u.ID())
	must(v.Append(t.Context(), 0, strings.NewReader("ab")))(t)
	_, err := u.Append(t.Context(), -1, strings.NewReader("z"))
	wantRangeError(t, err)
	wantContent(t, r, u.ID(), "ab")
}

func appendEmpty(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	for _, part := range []string{"", "abc", ""} {
		must(u.Append(t.Context(), u.Size(), strings.NewReader(part)))(t)
	}
	wantContent(t, r, u.ID(), "abc")
}

// takeOver begins an append while another one's client has gone quiet, as one
// does that reconnects. What it is told the session holds is where it goes on.
func takeOver(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	slow := newStall(t, "abc", "XYZ")
	lost := background(t, func() error { return second(u.Append(t.Context(), 0, slow)) })
	slow.wait()
	v, kept := continueAfter(t, r, u.ID(), "def")
	slow.release()
	wantRangeError(t, lost())
	must(v.Append(t.Context(), -1, strings.NewReader("ghi")))(t)
	wantContent(t, r, u.ID(), "abc"[:kept]+"defghi")
}

// continueAfter appends where the session is said to end. That may grow for as
// long as the store takes in what it has read before.
func continueAfter(t testing.TB, r repo, id, more string) (u storage.Upload, kept int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		u = resume(r, id)
		kept = u.Size()
		_, err := u.Append(ctx, kept, strings.NewReader(more))
		if err == nil {
			return u, kept
		}
		if ctx.Err() != nil || kept == resume(r, id).Size() {
			t.Fatalf("taking over at %d: %v", kept, err)
		}
	}
}

func noTakeOver(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("abc")))(t)
	slow := newStall(t, "", "def")
	appended := background(t, func() error { return second(u.Append(t.Context(), 3, slow)) })
	slow.wait()
	for _, offset := range []int64{0, 2, 4} {
		_, err := resume(r, u.ID()).Append(t.Context(), offset, strings.NewReader("XYZ"))
		wantRangeError(t, err)
	}
	slow.release()
	if err := appended(); err != nil {
		t.Fatalf("the append that was refused disturbed the one that ran: %v", err)
	}
	wantContent(t, r, u.ID(), "abcdef")
}

func takenOverIdle(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	slow := newStall(t, "", "")
	lost := background(t, func() error { return second(u.Append(t.Context(), 0, slow)) })
	slow.wait()
	must(resume(r, u.ID()).Append(t.Context(), 0, strings.NewReader("abc")))(t)
	slow.release()
	wantRangeError(t, lost())
	wantContent(t, r, u.ID(), "abc")
}

func oneWinner(t testing.TB, s storage.Store) {
	for range 10 {
		wantOneWinner(t, repository(t, s, "a"), "")
	}
}

func oneWinnerInTheMiddle(t testing.TB, s storage.Store) {
	for range 10 {
		wantOneWinner(t, repository(t, s, "a"), "begun")
	}
}

// wantOneWinner lets eight requests claim the offset after begun at once, each
// with its own content in many pieces.
func wantOneWinner(t testing.TB, r repo, begun string) {
	t.Helper()
	const claimants = 8
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader(begun)))(t)
	handles := make([]storage.Upload, claimants)
	for i := range handles {
		handles[i] = resume(r, u.ID())
	}
	content := func(i int) string { return strings.Repeat(fmt.Sprint(i), 20+i) }
	winner := wantOne(t, together(claimants, func(i int) error {
		_, err := handles[i].Append(t.Context(), int64(len(begun)), iotest.OneByteReader(strings.NewReader(content(i))))
		return err
	}), oci.BlobUploadInvalid)
	wantContent(t, r, u.ID(), begun+content(winner))
}

func appendFails(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	boom := errors.New("connection reset")
	size, err := u.Append(t.Context(), 0, io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(boom)))
	if !errors.Is(err, boom) {
		t.Fatalf("error %v, want the reader's", err)
	}
	if size != 3 || u.Size() != 3 || resume(r, u.ID()).Size() != 3 {
		t.Fatalf("append returned %d, Size is %d, resumed at %d; want 3", size, u.Size(), resume(r, u.ID()).Size())
	}
	must(resume(r, u.ID()).Append(t.Context(), 3, strings.NewReader("def")))(t)
	wantContent(t, r, u.ID(), "abcdef")
}

func appendPieces(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	content := strings.Repeat("0123456789abcdefghij", 20_000)
	for _, pieces := range []func(io.Reader) io.Reader{iotest.HalfReader, iotest.DataErrReader, iotest.OneByteReader} {
		u := newSession(r)
		in := io.MultiReader(strings.NewReader(content[:100_000]), pieces(strings.NewReader(content[100_000:])))
		must(u.Append(t.Context(), 0, in))(t)
		wantContent(t, r, u.ID(), content)
		content = content[:len(content)/4]
		content = strings.Repeat(content, 4)[1:]
	}
}

func appendEnded(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	must(u.Commit(t.Context(), digest.FromString("x")))(t)
	for _, offset := range []int64{-1, 0, 1} {
		_, err := u.Append(t.Context(), offset, strings.NewReader("y"))
		wantCode(t, err, oci.BlobUploadUnknown)
	}
	r.wantBlob(digest.FromString("x"), "x")
}
