// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// offerCode is the only supported offer.
const offerCode = "AmazonElastiCache"

// priceList is the content of one file, independent of its format.
type priceList struct {
	offer, version, date string
	offers               []offer
}

// offer is one on-demand price of one product, with the values of AWS.
type offer struct {
	family, locationType, region    string
	nodeType, memory, engine, usage string
	unit, usd                       string
}

func readList(name string) (priceList, error) {
	f, err := os.Open(name)
	if err != nil {
		return priceList{}, err
	}
	defer f.Close()
	read := map[string]func(io.Reader) (priceList, error){".json": readJSON, ".csv": readCSV}[filepath.Ext(name)]
	if read == nil {
		return priceList{}, errors.New("a price list must be a .json or a .csv file")
	}
	l, err := read(f)
	switch {
	case err != nil:
		return priceList{}, err
	case l.offer != offerCode:
		return priceList{}, fmt.Errorf("unexpected offer %q, want %s", l.offer, offerCode)
	case len(l.date) < len("2006-01-02"):
		return priceList{}, errors.New("no publication date")
	}
	l.date = l.date[:len("2006-01-02")]
	return l, nil
}

// offerFile is the JSON format: products by SKU, and their terms by SKU and term.
type offerFile struct {
	OfferCode       string
	Version         string
	PublicationDate string
	Products        map[string]struct {
		ProductFamily string
		Attributes    map[string]string
	}
	Terms struct {
		OnDemand map[string]map[string]struct {
			PriceDimensions map[string]struct {
				Unit         string
				PricePerUnit map[string]string
			}
		}
	}
}

func readJSON(r io.Reader) (priceList, error) {
	var f offerFile
	if err := json.NewDecoder(r).Decode(&f); err != nil {
		return priceList{}, err
	}
	l := priceList{offer: f.OfferCode, version: f.Version, date: f.PublicationDate}
	for sku, p := range f.Products {
		a := p.Attributes
		for _, term := range f.Terms.OnDemand[sku] {
			for _, price := range term.PriceDimensions {
				l.offers = append(l.offers, offer{
					family: p.ProductFamily, locationType: a["locationType"], region: a["regionCode"],
					nodeType: a["instanceType"], memory: a["memory"], engine: a["cacheEngine"], usage: a["usagetype"],
					unit: price.Unit, usd: price.PricePerUnit["USD"],
				})
			}
		}
	}
	return l, nil
}

// readCSV reads the CSV format: lines with a name and a value, a header line, and a line
// for each price of each term.
func readCSV(r io.Reader) (priceList, error) {
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = -1
	var l priceList
	var header map[string]int
	for {
		line, err := lines.Read()
		switch {
		case errors.Is(err, io.EOF):
			return l, nil
		case err != nil:
			return priceList{}, err
		case header != nil:
			l.addLine(line, header)
		case line[0] == "SKU":
			header = map[string]int{}
			for i, name := range line {
				header[name] = i
			}
		case len(line) == 2:
			l.setMetadata(line[0], line[1])
		}
	}
}

func (l *priceList) setMetadata(name, value string) {
	switch name {
	case "OfferCode":
		l.offer = value
	case "Version":
		l.version = value
	case "Publication Date":
		l.date = value
	}
}

func (l *priceList) addLine(line []string, header map[string]int) {
	field := func(name string) string {
		if i, ok := header[name]; ok && i < len(line) {
			return line[i]
		}
		return ""
	}
	if field("TermType") != "OnDemand" || field("Currency") != "USD" {
		return
	}
	l.offers = append(l.offers, offer{
		family: field("Product Family"), locationType: field("Location Type"), region: field("Region Code"),
		nodeType: field("Instance Type"), memory: field("Memory"), engine: field("Cache Engine"), usage: field("usageType"),
		unit: field("Unit"), usd: strings.TrimSpace(field("PricePerUnit")),
	})
}
