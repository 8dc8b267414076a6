package handler_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
)

// Somebody who may not know of a repository tries everything on it, and on one that
// isn't there, and looks for a difference.
func TestForbiddenLooksLikeMissing(t *testing.T) {
	t.Parallel()
	rights := onlyThere("secret", "mine")
	c := newClient(t, handler.Options{Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) { return rights(q) })})
	raw, d := c.pushImage("secret", "")
	c.run(exchange{method: "POST", target: "/v2/secret/blobs/uploads/", status: 202})
	session := strings.TrimPrefix(c.location, "/v2/secret")
	rights = onlyThere("mine")
	blob := "/blobs/" + layerDigest.String()
	for _, x := range []exchange{
		{method: "GET", target: "/manifests/v1"},
		{method: "HEAD", target: "/manifests/v1"},
		{method: "GET", target: "/manifests/" + d.String()},
		{method: "GET", target: "/manifests/" + d.String(), header: []string{"If-None-Match", `"` + d.String() + `"`}},
		{method: "PUT", target: "/manifests/v1", body: raw, header: ctImage},
		{method: "PUT", target: "/manifests/" + d.String() + "?tag=v1", body: raw, header: ctImage},
		{method: "PUT", target: "/manifests/v1", body: "{", header: ctImage},
		{method: "DELETE", target: "/manifests/v1"},
		{method: "DELETE", target: "/manifests/" + d.String()},
		{method: "GET", target: blob},
		{method: "HEAD", target: blob},
		{method: "GET", target: blob, header: []string{"Range", "bytes=0-0"}},
		{method: "GET", target: blob, header: []string{"Range", "bytes=0-0,2-2"}},
		{method: "GET", target: blob, header: []string{"Range", "bytes=1000000-"}},
		{method: "GET", target: blob, header: []string{"If-Match", `"` + missing.String() + `"`}},
		{method: "DELETE", target: blob},
		{method: "GET", target: "/tags/list"},
		{method: "GET", target: "/tags/list?n=0"},
		{method: "GET", target: "/referrers/" + d.String()},
		{method: "POST", target: "/blobs/uploads/"},
		{method: "POST", target: "/blobs/uploads/?digest=" + layerDigest.String(), body: layer},
		{method: "POST", target: "/blobs/uploads/?mount=" + layerDigest.String()},
		{method: "POST", target: "/blobs/uploads/?from=mine&mount=" + layerDigest.String()},
		{method: "GET", target: session},
		{method: "PATCH", target: session, body: "x"},
		{method: "PUT", target: session + "?digest=" + layerDigest.String(), body: layer},
		{method: "DELETE", target: session},
	} {
		there := c.send(x.method, "/v2/secret"+x.target, x.body, x.header...)
		nowhere := c.send(x.method, "/v2/terces"+x.target, x.body, x.header...)
		nowhere.body = strings.ReplaceAll(nowhere.body, "terces", "secret")
		if there.status != http.StatusForbidden || !reflect.DeepEqual(there, nowhere) {
			t.Errorf("%s %s\nthere:  %+v\nnowhere: %+v", x.method, x.target, there, nowhere)
		}
	}
	rights = onlyThere("secret")
	c.run(exchange{method: "GET", target: "/v2/secret/tags/list", status: 200, is: `{"name":"secret","tags":["v1"]}`})
	c.run(exchange{method: "GET", target: "/v2/secret" + session, status: 204})
}

// Somebody has seen the ID of an upload session in a log, and names it in a
// repository where they may push.
func TestSomebodyElsesSession(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.run(exchange{method: "POST", target: "/v2/secret/blobs/uploads/", status: 202})
	c.run(exchange{method: "PATCH", target: "$", body: layer, status: 202})
	session := strings.TrimPrefix(c.location, "/v2/secret")
	for _, x := range []exchange{
		{method: "GET", target: "/v2/mine" + session},
		{method: "PATCH", target: "/v2/mine" + session, body: "x"},
		{method: "PUT", target: "/v2/mine" + session + "?digest=" + layerDigest.String()},
		{method: "DELETE", target: "/v2/mine" + session},
	} {
		x.status, x.code = 404, oci.BlobUploadUnknown
		c.run(x)
	}
	c.run(exchange{method: "PUT", target: "/v2/secret" + session + "?digest=" + layerDigest.String(), status: 201})
}

// Somebody who may push, and not pull, learns what a blob has by pushing a manifest
// that names it, or by asking for it.
func TestPushingIsNotReading(t *testing.T) {
	t.Parallel()
	pushOnly := false
	c := newClient(t, handler.Options{Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) {
		for _, w := range q.Want {
			if pushOnly && w.Action != authz.Push {
				return authz.Answer{}, oci.Errorf(oci.Denied, "only push")
			}
		}
		return authz.Answer{}, nil
	})})
	_, d := c.pushImage("box", "")
	pushOnly = true
	for _, target := range []string{
		blobPath("box", layerDigest), manifestPath("box", "v1"), manifestPath("box", d.String()),
		"/v2/box/tags/list", "/v2/box/referrers/" + d.String(),
	} {
		c.run(exchange{method: "GET", target: target, status: 403, code: oci.Denied})
	}
	c.run(exchange{method: "DELETE", target: blobPath("box", layerDigest), status: 403, code: oci.Denied})
	c.run(exchange{method: "DELETE", target: manifestPath("box", "v1"), status: 403, code: oci.Denied})
	c.run(exchange{method: "POST", target: "/v2/other/blobs/uploads/?from=box&mount=" + layerDigest.String(), status: 202})
	c.run(exchange{method: "POST", target: "/v2/box/blobs/uploads/?digest=" + digest.FromString("new").String(), body: "new", status: 201})
}
