{{- define "type_members" -}}
{{- if eq .Name "metadata" -}}
The standard object metadata.
{{- else -}}
{{ template "line" .Doc }}
{{- end -}}
{{- end -}}
