package oci

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// specCodes are the codes and descriptions of distribution-spec main, "Error
// Codes", with the status that we answer: the spec names one for some of them.
func specCodes() map[Code]struct {
	text   string
	status int
} {
	return map[Code]struct {
		text   string
		status int
	}{
		"BLOB_UNKNOWN":          {"blob unknown to registry", 404},
		"BLOB_UPLOAD_INVALID":   {"blob upload invalid", 400},
		"BLOB_UPLOAD_UNKNOWN":   {"blob upload unknown to registry", 404},
		"DIGEST_INVALID":        {"provided digest did not match uploaded content", 400},
		"MANIFEST_BLOB_UNKNOWN": {"manifest references a manifest or blob unknown to registry", 404},
		"MANIFEST_INVALID":      {"manifest invalid", 400},
		"MANIFEST_UNKNOWN":      {"manifest unknown to registry", 404},
		"NAME_INVALID":          {"invalid repository name", 400},
		"NAME_UNKNOWN":          {"repository name not known to registry", 404},
		"SIZE_INVALID":          {"provided length did not match content length", 400},
		"UNAUTHORIZED":          {"authentication required", 401},
		"DENIED":                {"requested access to the resource is denied", 403},
		"UNSUPPORTED":           {"the operation is unsupported", 405},
		"TOOMANYREQUESTS":       {"too many requests", 429},
	}
}

func TestCodesAreThoseOfTheSpec(t *testing.T) {
	t.Parallel()
	spec := specCodes()
	if len(codes) != len(spec) {
		t.Errorf("%d codes, the spec has %d", len(codes), len(spec))
	}
	for c, want := range spec {
		if got := c.Error(); got != want.text {
			t.Errorf("%s says %q, the spec %q", string(c), got, want.text)
		}
		if got := c.Status(); got != want.status {
			t.Errorf("%s has status %d, want %d", string(c), got, want.status)
		}
	}
}

func TestErrorIsItsCode(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("read the manifest: %w", Errorf(BlobUnknown, "%s is gone: %w", "x", io.ErrUnexpectedEOF))
	if !errors.Is(err, BlobUnknown) || errors.Is(err, ManifestUnknown) {
		t.Errorf("%v isn't BlobUnknown alone", err)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v has lost its cause", err)
	}
	var oe *Error
	if !errors.As(err, &oe) || oe.Code != BlobUnknown || oe.HTTPStatus() != http.StatusNotFound {
		t.Fatalf("%v is %+v", err, oe)
	}
	if got, want := oe.Error(), "blob unknown to registry: x is gone: unexpected EOF"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if got, want := (&Error{Code: Denied}).Error(), Denied.Error(); got != want {
		t.Errorf("without a text it says %q, want %q", got, want)
	}
}

func TestErrorStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		code   Code
		status int
	}{
		{Errorf(Denied, "no"), Denied, 403},
		{WithStatus(http.StatusMethodNotAllowed, Denied, "no"), Denied, 405},
		{RangeErrorf("at %d", 3), BlobUploadInvalid, 416},
		{&Error{Code: SizeInvalid, Status: 413}, SizeInvalid, 413},
	} {
		var oe *Error
		if !errors.As(c.err, &oe) || oe.HTTPStatus() != c.status || !errors.Is(c.err, c.code) {
			t.Errorf("%v: want %s with status %d", c.err, string(c.code), c.status)
		}
	}
}

func TestErrorsDontRepeatWhatTheyRefuse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	_, name := ParseName(long)
	_, tag := ParseTag(long)
	_, algorithm := ParseAlgorithm(long)
	_, header := ParseManifest("a b "+long, []byte(`{}`), "sha256")
	_, field := ParseManifest("a/b", []byte(`{"mediaType":"`+long+`"}`), "sha256")
	for _, err := range []error{name, tag, algorithm, header, field} {
		if err == nil || len(err.Error()) > 2000 {
			t.Errorf("an error of %d bytes: %.100v", len(fmt.Sprint(err)), err)
		}
	}
}
