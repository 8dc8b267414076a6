package handler

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/caddy-oci/oci-registry/oci"
)

// appendDescriptor adds a descriptor to a list of referrers, as json.Marshal
// would, which takes ten times as long: a page can have ten thousand.
func appendDescriptor(list []byte, desc oci.Descriptor) ([]byte, error) {
	if len(desc.URLs) > 0 || desc.Data != nil || desc.Platform != nil {
		entry, err := json.Marshal(desc) // no manifest has these; some other store may
		return append(list, entry...), err
	}
	list = appendString(append(list, `{"mediaType":`...), desc.MediaType)
	list = appendString(append(list, `,"digest":`...), desc.Digest.String())
	list = strconv.AppendInt(append(list, `,"size":`...), desc.Size, 10)
	if len(desc.Annotations) > 0 {
		var few [8]string
		keys := slices.AppendSeq(few[:0], maps.Keys(desc.Annotations))
		slices.Sort(keys)
		sep := byte('{')
		list = append(list, `,"annotations":`...)
		for _, key := range keys {
			list = appendString(append(list, sep), key)
			list = appendString(append(list, ':'), desc.Annotations[key])
			sep = ','
		}
		list = append(list, '}')
	}
	if desc.ArtifactType != "" {
		list = appendString(append(list, `,"artifactType":`...), desc.ArtifactType)
	}
	return append(list, '}'), nil
}

// verbatim are the bytes that stand for themselves.
var verbatim = func() (is [256]bool) {
	for c := byte(' '); c <= '~'; c++ {
		is[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return is
}()

// appendString adds a JSON string. What needs escaping, by json.Marshal's
// standard, is left to it.
func appendString(list []byte, s string) []byte {
	for i := range len(s) {
		if !verbatim[s[i]] {
			quoted, _ := json.Marshal(s) // a string can't fail
			return append(list, quoted...)
		}
	}
	list = append(append(list, '"'), s...)
	return append(list, '"')
}
