package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
)

// against opens a bucket of a store that answers as told.
func against(t *testing.T, answer http.HandlerFunc) *awsBucket {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	b, err := newAWS(t.Context(), Location{
		Bucket: "registry", Region: "eu-west-1", Endpoint: srv.URL, PathStyle: true, AccessKey: "key", SecretKey: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

// calls are all that a bucket is asked.
func calls(ctx context.Context, b bucket) map[string]func() error {
	return map[string]func() error{
		"get":  func() error { _, err := b.get(ctx, getRequest{Key: "k", IfNoneMatch: `"e"`}); return err },
		"list": func() error { _, _, err := b.list(ctx, "k", ""); return err },
		"put": func() error {
			_, err := b.put(ctx, putRequest{Key: "k", Body: []byte("x"), IfMatch: `"e"`})
			return err
		},
		"remove":         func() error { return b.remove(ctx, "k") },
		"remove several": func() error { return b.remove(ctx, "k", "l") },
		"begin":          func() error { _, err := b.begin(ctx, "k"); return err },
		"part":           func() error { _, err := b.part(ctx, "k", "u", 1, []byte("x")); return err },
		"complete":       func() error { return b.complete(ctx, "k", "u", []part{{1, `"e"`}}) },
		"abort":          func() error { return b.abort(ctx, "k", "u") },
	}
}

// What a store answers, and what it means.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		code   string
		means  error
	}{
		{412, "PreconditionFailed", errConflict},
		{409, "ConditionalRequestConflict", errConflict},
		{409, "OperationAborted", errTemporary},
		{404, "NoSuchKey", errNotFound},
		{404, "NoSuchUpload", errNotFound},
		{404, "NoSuchBucket", errRefused},
		{503, "SlowDown", errSlowDown},
		{503, "ServiceUnavailable", errSlowDown},
		{429, "TooManyRequests", errSlowDown},
		{500, "InternalError", errTemporary},
		{502, "", errTemporary},
		{504, "", errTemporary},
		{400, "RequestTimeout", errTemporary},
		{400, "IncompleteBody", errTemporary},
		{499, "ClientDisconnected", errTemporary},
		{507, "XMinioStorageFull", storage.ErrFull},
		{507, "", storage.ErrFull},
		{403, "AccessDenied", errRefused},
		{501, "NotImplemented", errRefused},
		{400, "EntityTooSmall", errRefused},
	} {
		t.Run(fmt.Sprint(c.status, " ", c.code), func(t *testing.T) {
			t.Parallel()
			asked := 0
			b := against(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(c.status)
				if c.code != "" {
					fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", c.code)
				}
			})
			all := calls(t.Context(), b)
			for what, call := range all {
				if err := call(); !errors.Is(err, c.means) {
					t.Errorf("%s: %v, want %v", what, err, c.means)
				}
			}
			if asked != len(all) {
				t.Errorf("%d requests for %d calls", asked, len(all))
			}
		})
	}
}

// A store that doesn't answer, or breaks off, may have done what it was asked.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"closes": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"breaks off": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, "<ListBucketResult><Con")
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, call := range calls(t.Context(), against(t, answer)) {
				if name == "breaks off" && !strings.Contains("list begin complete remove several", what) {
					continue // their answers have no body, or their readers find out
				}
				if err := call(); !passing(err) {
					t.Errorf("%s: %v, which can be tried again", what, err)
				}
			}
		})
	}
	b := against(t, func(http.ResponseWriter, *http.Request) {})
	b.at.Bucket = "registry"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, call := range calls(ctx, b) {
		if err := call(); passing(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, though nobody waits", what, err)
		}
	}
}

// Errors in the answer to a removal of several are errors.
func TestRemoveErrors(t *testing.T) {
	t.Parallel()
	b := against(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<DeleteResult><Error><Key>k</Key><Code>SlowDown</Code><Message>m</Message></Error></DeleteResult>`)
	})
	if err := b.remove(t.Context(), "k", "l"); !errors.Is(err, errSlowDown) {
		t.Fatalf("error %v", err)
	}
}

// A put says what it's about: conditions, the sum of the content, where it's kept.
func TestPutRequest(t *testing.T) {
	t.Parallel()
	var got http.Header
	b := against(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("ETag", `"etag"`)
	})
	b.at.StorageClass, b.at.Encryption, b.at.KMSKey = "STANDARD_IA", "aws:kms", "a-key"
	want := map[string]string{
		"X-Amz-Checksum-Sha256":                       "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=",
		"X-Amz-Content-Sha256":                        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
		"If-None-Match":                               "*",
		"If-Match":                                    "",
		"X-Amz-Storage-Class":                         "STANDARD_IA",
		"X-Amz-Server-Side-Encryption":                "aws:kms",
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "a-key",
	}
	etag, err := b.put(t.Context(), putRequest{Key: "k", Body: []byte("x"), IfAbsent: true, Blob: true})
	if err != nil || etag != `"etag"` {
		t.Fatalf("%s, %v", etag, err)
	}
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Get(name), value)
		}
	}
	if _, err := b.put(t.Context(), putRequest{Key: "k", Body: []byte("x"), IfMatch: etag}); err != nil {
		t.Fatal(err)
	}
	if got.Get("If-Match") != etag || got.Get("If-None-Match") != "" || got.Get("X-Amz-Storage-Class") != "" {
		t.Errorf("headers %v", got)
	}
}

func TestOpenWithoutBucket(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), Location{}, Options{}); err == nil {
		t.Fatal("it's opened")
	}
}
