// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/test/leak"
)

// text has characters that encoders write in their own ways.
const text = "a marked <password>"

var password = New(text)

// TestStringIsMasked writes a value, and structs that contain it, in every way in which the
// operator's libraries write something.
func TestStringIsMasked(t *testing.T) {
	type unexported struct {
		password String
		list     []String
		byName   map[string]String
	}
	holder := struct {
		Name     string
		hidden   unexported
		Password String
		Pointer  *String
		List     []String
		Map      map[string]String
	}{"holder", unexported{password, []String{password}, map[string]String{"p": password}}, password, new(password), []String{password}, map[string]String{"p": password}}
	var all strings.Builder
	for _, value := range []any{password, &holder, holder, []String{password}, map[string]any{"p": password}, errors.New(fmt.Sprint(password))} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T %v"} {
			fmt.Fprintf(&all, verb+"\n", value)
		}
		for _, encode := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
			encoded, err := encode(value)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(encoded)
		}
		slog.New(slog.NewTextHandler(&all, nil)).Info("text", "value", value)
		slog.New(slog.NewJSONHandler(&all, nil)).Info("JSON", "value", value)
		funcr.New(func(prefix, args string) { all.WriteString(prefix + args) }, funcr.Options{}).Info("logr", "value", value)
		core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&all), zap.DebugLevel)
		zap.New(core).Info("zap", zap.Any("value", value))
		zap.New(core).Sugar().Infow("sugared zap", "value", value)
	}
	inXML, err := xml.Marshal(password)
	if err != nil {
		t.Fatal(err)
	}
	all.Write(inXML)
	all.WriteString(password.String() + password.GoString())

	searcher := leak.NewSearcher()
	if err := searcher.Add("the password", text); err != nil {
		t.Fatal(err)
	}
	for _, found := range searcher.Search("the output", all.String()) {
		t.Error(found)
	}
	if !strings.Contains(all.String(), masked) {
		t.Errorf("no stars in %s", &all)
	}
}

func TestStringsAreEqualIfTheirValuesAre(t *testing.T) {
	if New("a"+text[1:]) != password || New("other") == password || !password.Equal(New(text)) {
		t.Error("values are not compared")
	}
	if (String{}) != New("") || !New("").IsEmpty() || New("").Reveal() != "" || password.IsEmpty() || password.Reveal() != text {
		t.Error("the empty value is not the zero value, or a value is not revealed")
	}
}
