import { checkComposed } from '../helpers/check_op';
import { attentionSpec } from './attention.cases';

checkComposed(attentionSpec);
