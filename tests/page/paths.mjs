// The page's modules name each other from the root of its server; here that is web/.

import { register } from 'node:module';

register('data:text/javascript,' + encodeURIComponent(`
  const web = ${JSON.stringify(new URL('../../web/', import.meta.url).href)};
  export const resolve = (name, context, next) =>
    next(name.startsWith('/') ? new URL('.' + name, web).href : name, context);`));
