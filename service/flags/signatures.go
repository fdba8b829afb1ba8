// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"math"
	"strconv"
	"strings"
)

// types is a set of JSON types.
type types uint8

// Types of arguments and results.
const (
	aNull    = types(1) << kindNull
	aBool    = types(1) << kindBool
	aNumber  = types(1) << kindNumber
	aString  = types(1) << kindString
	aList    = types(1) << kindArray
	anObject = types(1) << kindObject

	aScalar   = aNull | aBool | aNumber | aString
	anything  = aScalar | aList | anObject
	aQuantity = aNumber | aString
)

// String returns the types with their articles, for messages.
func (t types) String() string {
	var names []string
	for k := kindNull; k <= kindObject; k++ {
		if t&(1<<k) != 0 {
			names = append(names, k.String())
		}
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// signature is what an operator accepts and returns. Arguments for which an
// evaluation would always fail, or always have the same result, are not
// accepted.
type signature struct {
	// min and max are the number of arguments; max is 0 if it is unlimited.
	min, max int
	// list means that a single argument must be in a list, too; literal that the list
	// must not be computed.
	list, literal bool
	// single are the types of an argument that is not in a list, 0 if they are the same.
	single types
	// args are the types of the arguments. The last one applies to all that follow.
	args []types
	// returns are the types of the result.
	returns types
}

func (s signature) argument(i int) types { return s.args[min(i, len(s.args)-1)] }

// signatures are those of all operators.
var signatures = map[string]signature{
	"var":          {max: 2, args: []types{aNull | aQuantity, anything}, returns: anything},
	"missing":      {args: []types{aString}, returns: aList},
	"missing_some": {min: 2, max: 2, list: true, args: []types{aNumber, aList}, returns: aList},

	"if":  {min: 1, list: true, literal: true, args: []types{anything}, returns: anything},
	"?:":  {min: 1, list: true, literal: true, args: []types{anything}, returns: anything},
	"and": {min: 1, list: true, literal: true, args: []types{anything}, returns: anything},
	"or":  {min: 1, list: true, literal: true, args: []types{anything}, returns: anything},
	"!":   {min: 1, max: 1, args: []types{anything}, returns: aBool},
	"!!":  {min: 1, max: 1, args: []types{anything}, returns: aBool},

	"==":  {min: 2, max: 2, list: true, args: []types{aScalar}, returns: aBool},
	"!=":  {min: 2, max: 2, list: true, args: []types{aScalar}, returns: aBool},
	"===": {min: 2, max: 2, list: true, args: []types{aScalar}, returns: aBool},
	"!==": {min: 2, max: 2, list: true, args: []types{aScalar}, returns: aBool},
	"<":   {min: 2, max: 3, list: true, args: []types{aScalar}, returns: aBool},
	"<=":  {min: 2, max: 3, list: true, args: []types{aScalar}, returns: aBool},
	">":   {min: 2, max: 3, list: true, args: []types{aScalar}, returns: aBool},
	">=":  {min: 2, max: 3, list: true, args: []types{aScalar}, returns: aBool},

	"+":   {min: 1, args: []types{aQuantity}, returns: aNumber},
	"-":   {min: 1, list: true, args: []types{aQuantity}, returns: aNumber},
	"*":   {min: 1, list: true, args: []types{aQuantity}, returns: aNumber},
	"/":   {min: 1, list: true, args: []types{aQuantity}, returns: aNumber},
	"%":   {min: 2, max: 2, list: true, args: []types{aQuantity}, returns: aNumber},
	"abs": {min: 1, max: 1, args: []types{aQuantity}, returns: aNumber},
	"max": {min: 1, list: true, args: []types{aQuantity}, returns: aNumber},
	"min": {min: 1, list: true, args: []types{aQuantity}, returns: aNumber},

	"cat":    {min: 1, single: aString, args: []types{aQuantity | aNull}, returns: aString},
	"substr": {min: 2, max: 3, list: true, args: []types{aQuantity | aNull, aNumber}, returns: aString},
	"in":     {min: 2, max: 2, list: true, args: []types{anything, aString | aList}, returns: aBool},
	"merge":  {min: 1, single: aBool | aQuantity, args: []types{anything}, returns: aList},
	"set":    {min: 3, max: 3, list: true, args: []types{anObject, aString, anything}, returns: anything},

	"contains_all":  {min: 2, max: 2, list: true, args: []types{aList}, returns: aBool},
	"contains_any":  {min: 2, max: 2, list: true, args: []types{aList}, returns: aBool},
	"contains_none": {min: 2, max: 2, list: true, args: []types{aList}, returns: aBool},

	"map":    {min: 2, max: 2, list: true, literal: true, args: []types{aList, anything}, returns: aList},
	"filter": {min: 2, max: 2, list: true, literal: true, args: []types{aList, anything}, returns: aList},
	"all":    {min: 2, max: 2, list: true, literal: true, args: []types{aList, anything}, returns: aBool},
	"none":   {min: 2, max: 2, list: true, literal: true, args: []types{aList, anything}, returns: aBool},
	"some":   {min: 2, max: 2, list: true, literal: true, args: []types{aList, anything}, returns: aBool},
	"reduce": {min: 3, max: 3, list: true, literal: true, args: []types{aList, anything, aBool | aQuantity}, returns: aBool | aQuantity},

	"fractional":  {min: 1, list: true, args: []types{anything}, returns: aScalar},
	"sem_ver":     {min: 3, max: 3, list: true, args: []types{aQuantity, aString, aQuantity}, returns: aBool | aNull},
	"starts_with": {min: 2, max: 2, list: true, args: []types{aString}, returns: aBool | aNull},
	"ends_with":   {min: 2, max: 2, list: true, args: []types{aString}, returns: aBool | aNull},
}

// argumentChecks validate the constant arguments of operators further.
var argumentChecks = map[string]func(l *linter, args []*node, at *place){
	"var":          checkVariable,
	"missing_some": checkNames,
	"+":            checkQuantities,
	"-":            checkQuantities,
	"*":            checkQuantities,
	"/":            checkQuantities,
	"%":            checkQuantities,
	"abs":          checkQuantities,
	"max":          checkQuantities,
	"min":          checkQuantities,
	"in":           checkIn,
	"all":          checkBody,
	"none":         checkBody,
	"some":         checkBody,
	"reduce":       checkBody,
	"fractional":   checkShares,
	"sem_ver":      checkVersions,
}

// checkVariable checks the name of a variable.
func checkVariable(l *linter, args []*node, at *place) {
	if len(args) == 0 || args[0].kind != kindString {
		return
	}
	parts := splitPath(args[0].text)
	if len(parts) > 0 && parts[0] == flagdKey && !strings.HasPrefix(args[0].text, ".") {
		switch strings.Join(parts[1:], ".") {
		case "", flagdFlagKey, flagdTimestamp:
		default:
			l.report(args[0], at, "%s has only %s and %s", flagdKey, flagdFlagKey, flagdTimestamp)
		}
	}
}

// checkNames checks the names in missing_some.
func checkNames(l *linter, args []*node, at *place) {
	for i, name := range args[1].items {
		l.checkType("missing_some", name, at.item(1).item(i), "name", aString)
	}
}

// checkQuantities checks numbers that are written as strings.
func checkQuantities(l *linter, args []*node, at *place) {
	for i, arg := range args {
		if arg.kind != kindString {
			continue
		}
		if _, err := strconv.ParseFloat(arg.text, 64); err != nil {
			l.report(arg, at.item(i), "%s is not a number, and counts as 0", quote(arg.text))
		}
	}
}

// checkIn checks the search for text.
func checkIn(l *linter, args []*node, at *place) {
	if args[1].kind == kindString {
		l.checkType("in", args[0], at.item(0), "argument 1", aString)
	}
}

// checkBody checks that the body of an iteration is an operator.
func checkBody(l *linter, args []*node, at *place) {
	if args[1].constant() {
		l.report(args[1], at.item(1), "the body of the iteration is %s and must be an operator", args[1].kind)
	}
}

// checkVersions checks the operator and the versions of sem_ver.
func checkVersions(l *linter, args []*node, at *place) {
	e := &env{steps: MaxSteps}
	for _, i := range []int{0, 2} {
		if !args[i].constant() || args[i].kind == kindObject || args[i].kind == kindArray {
			continue
		}
		if _, ok := e.version(args[i].goValue()); !ok {
			l.report(args[i], at.item(i), "%s is not a semantic version, so the result is always null", quote(args[i].text))
		}
	}
	if args[1].kind == kindString && compareVersions("v1", args[1].text, "v1") == nil {
		l.report(args[1], at.item(1), "%s is not one of = != < <= > >= ^ ~, so the result is always null", quote(args[1].text))
	}
}

// checkShares checks the shares of a fractional rollout.
func checkShares(l *linter, args []*node, at *place) {
	total, complete, shares := 0.0, true, 0
	for i, arg := range args {
		place := at.item(i)
		switch {
		case i == 0 && arg.kind == kindString:
			l.report(arg, place, "the seed is constant, so all users are in the same share")
		case i == 0 && (arg.kind == kindNull || arg.kind == kindObject && !arg.constant()):
			// A computed seed; null stands for the default.
		case arg.kind == kindObject && !arg.constant():
			shares, complete = shares+1, false
		case arg.kind != kindArray || len(arg.items) == 0 || len(arg.items) > 2:
			l.report(arg, place, "a share must be a list of a variant and a weight")
			return
		default:
			shares++
			weight, known := l.checkShare(arg, place)
			total, complete = total+weight, complete && known
		}
	}
	switch {
	case shares == 0:
		l.report(args[0], at, "there are no shares, so the result is always null")
	case complete && total == 0:
		l.report(args[0], at, "all weights are 0, so the result is always null")
	case total > math.MaxInt32:
		l.report(args[0], at, "the sum of the weights is more than %d, so the result is always null", math.MaxInt32)
	}
}

// checkShare returns the weight of a share; known is false if it is computed.
func (l *linter) checkShare(n *node, at *place) (weight float64, known bool) {
	l.checkType("fractional", n.items[0], at.item(0), "variant", aScalar)
	if len(n.items) == 1 || n.items[1].kind == kindNull {
		return 1, true
	}
	weightNode, place := n.items[1], at.item(1)
	if weightNode.kind != kindNumber {
		l.checkType("fractional", weightNode, place, "weight", aNumber|aNull)
		return 0, false
	}
	weight, _ = weightNode.number()
	switch {
	case weight != math.Trunc(weight):
		l.report(weightNode, place, "the weight %s is not an integer, so the result is always null", shorten(weightNode.text))
	case weight > math.MaxInt32:
		l.report(weightNode, place, "the weight %s is more than %d, so the result is always null", shorten(weightNode.text), math.MaxInt32)
	case weight < 0:
		l.report(weightNode, place, "the weight %s is negative, and counts as 0", shorten(weightNode.text))
	default:
		return weight, true
	}
	return 0, false
}
