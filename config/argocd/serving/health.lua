-- The health of a FlagCache in Argo CD for an application that only needs clients to be served: it
-- is Healthy during a canary and after a rollback. Use it in place of health.lua.
local hs = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.conditions == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end
local stalled = false
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Serving" then
    hs.message = condition.message
    if condition.status == "True" then
      hs.status = "Healthy"
    end
  elseif condition.type == "Stalled" then
    stalled = condition.status == "True"
  end
end
if stalled and hs.status ~= "Healthy" then
  hs.status = "Degraded"
end
return hs
